import errno
import math
import mmap
import os
import resource
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeport.runtimes import (
    EngineError,
    FormatError,
    IntegrityError,
    OutOfMemoryError,
    StorageError,
)
from edgeport.runtimes.safety import forked, isolation
from edgeport.runtimes.safety.isolation import Limits, run_limited

SHORT = Limits(time_s=20)


def test_an_answer_comes_back() -> None:
    assert run_limited(lambda: {"a": [1, 2.5, None, "é"], "inf": math.inf}, SHORT) == {
        "a": [1, 2.5, None, "é"],
        "inf": math.inf,
    }
    assert run_limited(os.getpid, SHORT) != os.getpid()


def test_where_no_process_is_left_no_pipe_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "no process")

    monkeypatch.setattr(forked, "fork", fork)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(BlockingIOError, match="no process"):
        run_limited(os.getpid, SHORT)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("kind", [FormatError, IntegrityError, EngineError])
def test_an_error_comes_back(kind: type[Exception]) -> None:
    def fail() -> None:
        raise kind("it broke", remedy="mend it")  # type: ignore[call-arg]  # ours have one

    with pytest.raises(kind, match=r"^it broke\n  fix: mend it$"):
        run_limited(fail, SHORT)


def test_an_error_of_the_system_comes_back_with_its_words() -> None:
    with pytest.raises(
        StorageError, match=r"No such file or directory: '/no/such'\n  fix: give it"
    ):
        run_limited(lambda: Path("/no/such").read_bytes(), SHORT)


@pytest.mark.parametrize("usable", [True, False])
def test_torch_finds_its_folders_where_nothing_can_be_made(
    usable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh machine has no cache of torch yet; a read-only one not even temporary files."""

    def find() -> Path:
        if not usable:
            raise FileNotFoundError("No usable temporary directory found")
        return tmp_path

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", find)

    def look() -> list[bool]:
        places = (tempfile.gettempdir(), os.environ["TORCHINDUCTOR_CACHE_DIR"])
        return [Path(place).is_dir() for place in places]

    assert run_limited(look, SHORT) == [True, True]
    assert not [*tmp_path.iterdir()]
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


def hang() -> None:
    while True:
        pass


def eat() -> None:
    np.ones(2**40, np.int8)


def unpickled() -> object:
    return object()


def test_a_crash_where_addresses_are_few_tells_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime 1.31 ends so at 160 MB, with a right model: below it says what it lacks."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (160 * 2**20, resource.RLIM_INFINITY))
    told = r"SIGSEGV within 160 MiB of addresses \(ulimit -v\), and may need more"
    with pytest.raises(EngineError, match=told):
        run_limited(lambda: os.kill(os.getpid(), signal.SIGSEGV), SHORT)


@pytest.mark.parametrize(
    ("work", "limits", "message"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), SHORT, "was ended by SIGSEGV"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), SHORT, "was ended by SIGKILL"),
        (lambda: os.kill(os.getpid(), 40), SHORT, "was ended by signal 40"),  # a real-time one
        (lambda: os._exit(0), SHORT, "answered nothing that makes sense"),
        (lambda: os._exit(7), SHORT, "ended without an answer"),
        (unpickled, SHORT, "ended without an answer"),
        (hang, Limits(time_s=0.3), r"took longer than 0\.3 s"),
        (lambda: time.sleep(60), Limits(time_s=0.3), r"took longer than 0\.3 s"),
    ],
)
def test_how_a_child_can_end(work: Callable[[], object], limits: Limits, message: str) -> None:
    with pytest.raises(
        EngineError,
        match=f"^the process that opened and ran the artefact {message}\n  fix: don't use this a",
    ):
        run_limited(work, limits)


@pytest.mark.parametrize(
    ("work", "limits"),
    [(eat, SHORT), (lambda: bytearray(2**28), Limits(20, 2**26))],
)
def test_a_child_that_takes_too_much(work: Callable[[], object], limits: Limits) -> None:
    with pytest.raises(
        OutOfMemoryError,
        match=r"^the process that opened and ran the artefact ran out of memory\n  fix: end what",
    ):
        run_limited(work, limits)


ARMED: list[signal.Signals] = []


def before_a_fork() -> None:
    if ARMED:
        signal.raise_signal(ARMED.pop())


os.register_at_fork(before=before_a_fork)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_fork_is_not_lost(number: signal.Signals) -> None:
    """Python prints and forgets what its handler raises there, as in the callbacks of logging."""
    before = signal.signal(number, signal.default_int_handler)
    try:
        ARMED.append(number)
        with pytest.raises(KeyboardInterrupt):
            run_limited(os.getpid, SHORT)
        assert signal.getsignal(number) is signal.default_int_handler
        assert run_limited(os.getpid, SHORT) != os.getpid()
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    "answer", [b"", b"[", b"[]", b"1", b'{"error": "x"}', b'{"error": "os", "problem": "", '
               b'"remedy": ""}', b'{"error": 1, "problem": "", "remedy": ""}', b"[" * 100_000]
)  # fmt: skip  # one value after the other
def test_an_answer_of_somebody_else(answer: bytes) -> None:
    with pytest.raises(EngineError, match="answered nothing that makes sense"):
        isolation._result(answer)


def test_nothing_can_be_written_made_or_removed(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("old")

    def write() -> list[str]:
        told = []
        for attempt in (
            lambda: (tmp_path / "new").write_text("x"),
            lambda: old.write_text("x"),
            lambda: os.truncate(old, 0),
            lambda: old.unlink(),
            lambda: (tmp_path / "folder").mkdir(),
            lambda: (tmp_path / "link").symlink_to("old"),
            lambda: old.rename(tmp_path / "moved"),
            lambda: socket.create_connection(("127.0.0.1", 9)),
        ):
            try:
                attempt()
                told.append("done")
            except PermissionError:
                told.append("refused")
        Path(os.devnull).write_text("x")
        with os.fdopen(os.memfd_create("private"), "wb") as file:
            file.write(b"x")
        return [*told, old.read_text()]

    assert run_limited(write, SHORT) == ["refused"] * 8 + ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_without_landlock_it_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "_CREATE_RULESET", 10**6)  # a call that no kernel has
    assert run_limited(lambda: 1, SHORT) == 1


def test_with_a_gpu_what_is_written_is_limited_and_not_what_is_reserved() -> None:
    def reserve() -> bool:
        with mmap.mmap(-1, 2**40, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0):
            return True

    small = Limits(20, 2**28)
    assert run_limited(reserve, small, gpu=True)
    with pytest.raises(EngineError, match=r"ended without an answer|ran out of memory"):
        run_limited(reserve, small)
    with pytest.raises(EngineError, match="ran out of memory"):
        run_limited(lambda: bytearray(2**30), small, gpu=True)


def test_with_a_gpu_its_device_files_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, other = tmp_path / "nvidia0", tmp_path / "other"
    device.touch()
    other.touch()
    monkeypatch.setattr(isolation, "gpu_files", lambda: [str(device)])

    def write() -> list[str]:
        told = []
        for path in (device, other):
            try:
                path.open("r+").close()
                told.append("done")
            except PermissionError:
                told.append("refused")
        return told

    assert run_limited(write, SHORT, gpu=True) == ["done", "refused"]
    assert run_limited(write, SHORT) == ["refused", "refused"]


@pytest.mark.parametrize("gpu", [False, True])
def test_with_a_gpu_threads_may_be_named(gpu: bool) -> None:
    """Which CUDA does while it starts, from another thread; it gives up if it can't."""

    def name() -> list[str]:
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        files = [f"/proc/self/task/{thread.native_id}/comm", "/proc/self/comm"]
        found = []
        for file in files:
            try:
                Path(file).write_text("named")
                found.append(Path(file).read_text().strip())
            except PermissionError:
                found.append("refused")
        over.set()
        return found

    assert run_limited(name, SHORT, gpu=gpu) == ["named" if gpu else "refused", "refused"]


def test_with_many_open_files_the_answer_comes_too() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    held: list[int] = []
    try:
        while not held or held[-1] < 1024:  # as many as select.select knows
            held.append(os.open(os.devnull, os.O_RDONLY))
        assert run_limited(lambda: 1, SHORT) == 1
    finally:
        for handle in held:
            os.close(handle)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_limits_are_those_of_the_child_alone() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = run_limited(lambda: resource.getrlimit(resource.RLIMIT_AS)[0], Limits(20, 2**30))
    assert 2**30 < limit < 2**50
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_limit_that_is_set_already_is_not_raised() -> None:
    def ask() -> tuple[int, int]:
        low = resource.getrlimit(resource.RLIMIT_AS)[1] - 2**20
        resource.setrlimit(resource.RLIMIT_AS, (low, low))
        inner = Limits(20, 2**43)
        return low, run_limited(lambda: resource.getrlimit(resource.RLIMIT_AS)[1], inner)

    low, found = run_limited(ask, SHORT)
    assert found == low
