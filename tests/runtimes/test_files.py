import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeport.runtimes import ExistingFileError, PlaceError, StorageError
from edgeport.runtimes.files import (
    hidden_folder,
    new_file,
    new_folder,
    refuse_existing,
    refuse_unfit,
    scratch_folder,
    write,
)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_text_and_bytes_are_written_over_an_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write(path, "é")
    assert path.read_bytes() == "é".encode()
    write(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == {"a.txt"}


def test_a_written_file_is_as_readable_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    problem = r"cannot write .*a\.txt: No such file or directory\n  fix: choose another place, free"
    with pytest.raises(StorageError, match=problem) as e:
        write(tmp_path / "absent" / "a.txt", b"new")
    assert e.value.exit_code == 3


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("file/a.txt", "file is no folder, so .*file/a.txt cannot be made in it"),
        ("file/b/a.txt", "file is no folder, so .*file/b/a.txt cannot be made in it"),
        ("x" * 300, f"cannot write .*: {os.strerror(errno.ENAMETOOLONG)}"),
        ("loop/a.txt", f"cannot write .*a.txt: {os.strerror(errno.ELOOP)}"),
        ("folder", "folder is a folder, and a file is to be written there"),
        ("pipe", "pipe is no regular file, and a file is to be written there"),
        ("device", "device is no regular file, and a file is to be written there"),
    ],
)
def test_a_place_where_no_file_can_be(tmp_path: Path, place: str, problem: str) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "device").symlink_to("/dev/null")  # root could replace what is not a link
    os.mkfifo(tmp_path / "pipe")
    before = {path: path.lstat() for path in tmp_path.iterdir()}
    for ask in (refuse_unfit, lambda path: write(path, b"new")):
        with pytest.raises(PlaceError, match=rf"{problem}\n  fix: choose another place") as e:
            ask(tmp_path / place)
        assert e.value.exit_code == 2
    assert {path: path.lstat() for path in tmp_path.iterdir()} == before
    assert (tmp_path / "file").read_text() == "old"


def test_a_link_to_what_a_process_writes_to_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    stdout = tmp_path / "stdout"
    with (tmp_path / "file").open() as file:  # as /dev/stdout, where it was sent to a file
        stdout.symlink_to(f"/proc/self/fd/{file.fileno()}")
        with pytest.raises(PlaceError, match="stdout is no regular file, and a file is to be"):
            write(stdout, b"new")
        assert stdout.is_symlink()
        assert stdout.read_text() == "old"


def test_what_belongs_to_the_system_is_not_to_be_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "stdout").symlink_to("/proc/self/fd/1")
    for place, remedy in (
        (tmp_path / "file", "remove it, or choose another place"),
        (Path("/dev/null"), "choose another place"),
        (tmp_path / "stdout", "choose another place"),
        (Path("/"), "choose another place"),
        (Path(), "choose another place"),
    ):
        with pytest.raises(ExistingFileError, match=f"{place} exists already\n  fix: {remedy}$"):
            refuse_existing(place)


def test_an_old_file_is_no_hindrance_to_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for place in ("file", "new", "deep/new"):
        refuse_unfit(tmp_path / place)
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize(
    ("flags", "reason"), [(0, "Permission denied"), (os.ST_RDONLY, "Read-only file system")]
)
def test_a_folder_that_nobody_may_write_to_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int, reason: str
) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path)  # root may do anything
    monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(f_flag=flags))
    for place in ("new", "deep/new"):
        with pytest.raises(StorageError, match=f"cannot write .*new: {reason}\n  fix:") as e:
            refuse_unfit(tmp_path / place)
        assert e.value.exit_code == 3


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.edge"
    with new_folder(path) as folder:
        write(folder / "a.txt", "a")
        (folder / "reports").mkdir()
        write(folder / "reports" / "b.txt", "b")
        assert not path.exists()
        assert folder.parent == path.parent
    assert names(path) == {"a.txt", "reports"}
    assert names(path.parent) == {"model.edge"}


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), OSError(28, "mine")])
def test_an_exception_removes_the_folder_and_passes(tmp_path: Path, error: BaseException) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "m.edge") as folder:
            write(folder / "a.txt", "a")
            raise error

    with pytest.raises(type(error)) as caught:
        fill()
    assert caught.value is error
    assert names(tmp_path) == set()


def test_an_existing_place_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken link").symlink_to("nowhere")
    for place in list(tmp_path.iterdir()):
        with (
            pytest.raises(ExistingFileError, match="exists already\n  fix: remove it, or choose"),
            new_folder(place),
        ):
            pytest.fail("the block must not run")
        with pytest.raises(ExistingFileError, match=f"{place.name} exists already"):
            refuse_existing(place)
    assert names(tmp_path) == {"file", "folder", "broken link"}


def test_a_place_that_is_taken_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "m.edge"
    with pytest.raises(ExistingFileError, match="exists already"), new_folder(path):
        path.write_text("theirs")
    assert path.read_text() == "theirs"
    assert names(tmp_path) == {"m.edge"}


def test_a_place_that_is_taken_in_the_last_moment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.edge"

    def take(_: Path) -> None:
        path.mkdir()
        (path / "theirs").touch()

    monkeypatch.setattr("edgeport.runtimes.files._sync_folder", take)
    with pytest.raises(ExistingFileError, match=r"m\.edge exists already"), new_folder(path):
        pass
    assert names(path) == {"theirs"}
    assert names(tmp_path) == {"m.edge"}


def test_a_folder_that_is_gone_at_the_end(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"cannot write .*m\.edge: No such file or directory\n"),
        new_folder(tmp_path / "m.edge") as folder,
    ):
        folder.rmdir()
    assert names(tmp_path) == set()


def test_a_folder_where_none_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(PlaceError, match=r"file is no folder, so .*m\.edge cannot be made in it"),
        new_folder(tmp_path / "file" / "m.edge"),
    ):
        pytest.fail("the block must not run")


_KILLED = """
import sys, time
from pathlib import Path
from edgeport.runtimes.files import new_folder, write
with new_folder(Path(sys.argv[1])) as folder:
    write(folder / "a.txt", "a")
    print("in the middle", flush=True)
    time.sleep(60)
"""


def test_kill_9_in_the_middle_leaves_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "m.edge"
    command = [sys.executable, "-c", _KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "in the middle\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not path.exists()
    with new_folder(path) as folder:
        write(folder / "a.txt", "a")
    assert names(path) == {"a.txt"}
    assert names(tmp_path) == {"m.edge"}  # what the dead one left is gone


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    for left in (".a.txt.01234567.tmp", ".m.edge.89abcdef.tmp"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "half").touch()
    (tmp_path / ".a.txt.00000000.tmp").touch()
    (tmp_path / ".a.txt.11111111.tmp").symlink_to(tmp_path)
    (tmp_path / ".a.txt.mine.tmp").touch()
    (tmp_path / ".b.txt.22222222.tmp").touch()
    write(tmp_path / "a.txt", "a")
    with new_folder(tmp_path / "m.edge"):
        pass
    kept = {".a.txt.11111111.tmp", ".a.txt.mine.tmp", ".b.txt.22222222.tmp"}
    assert names(tmp_path) == {"a.txt", "m.edge", *kept}


def test_what_somebody_else_is_writing_stays(tmp_path: Path) -> None:
    with new_file(tmp_path / "a.txt") as file, hidden_folder(tmp_path / "a.txt") as folder:
        write(tmp_path / "a.txt", "of another")
        assert folder.is_dir()
        file.write(b"mine")
    assert (tmp_path / "a.txt").read_bytes() == b"mine"
    assert names(tmp_path) == {"a.txt"}


def test_a_file_that_is_removed_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock
    removed: list[Path] = []

    def flock(handle: int, operation: int) -> None:
        real(handle, operation)
        if len(removed) < 2:
            (left,) = tmp_path.glob(".a.txt.*.tmp")
            removed.append(left)
            left.unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    write(tmp_path / "a.txt", "a")
    assert len(removed) == 2
    assert names(tmp_path) == {"a.txt"}


@pytest.mark.parametrize("make", [new_file, new_folder])
def test_ctrl_c_while_it_is_locked_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Any]
) -> None:
    def interrupted(handle: int, _: int) -> None:
        os.close(handle)
        raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt), make(tmp_path / "a"):
        pytest.fail("the block must not run")
    assert names(tmp_path) == set()


def test_parents_are_taken_back_if_they_are_empty(tmp_path: Path) -> None:
    def fail(path: Path, *, fill: bool = False) -> None:
        with new_folder(path) as folder:
            write(folder / "a.txt", "a")
            if fill:
                (path.parent / "theirs").touch()
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail(tmp_path / "a" / "b" / "m.edge")
    assert names(tmp_path) == set()
    with pytest.raises(ValueError, match="mine"):
        fail(tmp_path / "a" / "b" / "m.edge", fill=True)
    assert names(tmp_path / "a" / "b") == {"theirs"}


def test_a_scratch_folder_is_ones_own(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
    assert names(tmp_path) == set()


def test_a_full_disk_leaves_the_old_file(full_disk: Path) -> None:
    write(full_disk / "a.txt", "old")
    with pytest.raises(StorageError, match=r"cannot write .*a\.txt: No space left on device"):
        write(full_disk / "a.txt", bytes(1 << 20))
    assert (full_disk / "a.txt").read_text() == "old"
    assert names(full_disk) == {"a.txt"}
    with (
        pytest.raises(StorageError, match=r"cannot write .*/small/m\.edge/big: No space"),
        new_folder(full_disk / "m.edge") as folder,
    ):
        write(folder / "big", bytes(1 << 20))
    assert names(full_disk) == {"a.txt"}


_LIMITED = """
import resource, sys
from pathlib import Path
from edgeport.runtimes.errors import StorageError
from edgeport.runtimes.files import write
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write(Path(sys.argv[1]), bytes(2000))
except StorageError as e:
    print(e.problem)
"""


def test_a_write_that_fails_halfway_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    command = [sys.executable, "-c", _LIMITED, str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out == f"cannot write {path}: File too large\n"
    assert path.read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_file_that_others_write_and_remove_meanwhile_is_fit(tmp_path: Path) -> None:
    """It was asked twice of what kind the place is, and between the two it was gone."""
    place, ended = tmp_path / "a", threading.Event()

    def write_and_remove() -> None:
        while not ended.is_set():
            place.touch()
            place.unlink()

    thread = threading.Thread(target=write_and_remove)
    thread.start()
    try:
        for _ in range(3000):
            refuse_unfit(place)
    finally:
        ended.set()
        thread.join()
