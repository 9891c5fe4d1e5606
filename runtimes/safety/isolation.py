"""Strangers' files meet a parser in a child process: it may crash, hang, or eat the memory there.

The child is a fork, so nothing is imported twice and a private copy is at hand under the same
path. It may take neither more memory than is free nor longer than it is given, and where the
kernel has Landlock (5.13), it can neither write, make nor remove a file, nor reach the network.
What it answers is JSON, never pickle: the child may be somebody else's by then.
https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import json
import os
import resource
import struct
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from edgeport.runtimes import errors
from edgeport.runtimes.errors import EdgeportError, EngineError, OutOfMemoryError, StorageError

from .forked import OUT_OF_MEMORY, restrict, run_forked
from .fresh import ending

_CHILD: Final = "the process that opened and ran the artefact"

_LONGEST_ANSWER: Final = 2**28

_GPU_FILES: Final = ("nvidia*", "nvidia-caps/*", "dxg", "nvhost-*", "nvmap", "nvgpu/*/*", "dri/*",
                     "host1x-fence")  # fmt: skip

_OWN_THREADS: Final = "/proc/self/task"
"""``cuInit`` names its threads there (``TID/comm``), and fails with 304 where it can't: seen on an
H100, driver 580, and https://github.com/NVIDIA/OpenShell/issues/1486."""

_SET_NO_NEW_PRIVS: Final = 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture
_QUERY_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_WRITE_FILE: Final = 1 << 1
_TRUNCATE: Final = 1 << 14
_FS_WRITES: Final = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))  # remove and make
_BY_VERSION: Final = {2: 1 << 13, 3: _TRUNCATE}  # move to another folder; cut off
_TCP: Final = 0b11


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child process may use.

    Attributes:
        time_s: Wall time: emulated devices and large models are slow.
        memory_bytes: Beyond what the process already has; ``None`` for what is free.
    """

    time_s: float = 600.0
    memory_bytes: int | None = None


def run_limited(function: Callable[[], Any], limits: Limits, *, gpu: bool = False) -> Any:
    """Call a function in a child process.

    Args:
        function: Its result is written as JSON, and may hold NaN and infinity.
        limits: What the child may use.
        gpu: Whether it may use the GPUs: their device files are written to, and their driver
            reserves addresses for all memory of all of them.

    Returns:
        What the function returned, as JSON gives it back.

    Raises:
        EngineError: The child crashed, took too long, or (``OutOfMemoryError``) ran out of memory.
        StorageError: The function raised another ``OSError``.
        EdgeportError: The function raised it.
    """
    answer = partial(_answer, function, limits, gpu=gpu)
    data, status = run_forked(answer, limits.time_s, _LONGEST_ANSWER)
    if data is None:
        raise _ended(f"took longer than {limits.time_s:g} s")
    if status != 0:
        raise _crashed(status)
    return _result(data)


def _answer(function: Callable[[], Any], limits: Limits, *, gpu: bool) -> bytes:
    """What the child does."""
    faulthandler.disable()  # it would write to where the streams were
    for stream in (1, 2):  # what an engine prints while it dies is noise to a user
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    restrict(limits.memory_bytes, gpu=gpu)
    _find_folders()
    places = [os.devnull, *([*gpu_files(), _OWN_THREADS] if gpu else ())]
    _forbid_writing(ctypes.CDLL(None, use_errno=True), places)
    try:
        answer = {"result": function()}
    except EdgeportError as e:
        answer = {"error": type(e).__name__, "problem": e.problem, "remedy": e.remedy}
    except OSError as e:  # no folder for temporary files, say
        if e.errno == errno.ENOMEM:
            raise MemoryError from e
        remedy = "give it what it looked for, or use another machine"
        answer = {"error": StorageError.__name__, "problem": str(e), "remedy": remedy}
    return json.dumps(answer).encode()


def _find_folders() -> None:
    """Settle what torch finds by writing there: later it would fail for that alone."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # a read-only device
        tempfile.tempdir = os.sep
    # torch makes it while it is imported; what exists will do, as nothing is compiled here
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.sep)


def gpu_files() -> list[str]:
    """The files through which NVIDIA's driver is reached: on a PC, in WSL, on Jetson."""
    found = (path for pattern in _GPU_FILES for path in Path("/dev").glob(pattern))
    return [str(path) for path in found if not path.is_dir()]


def _forbid_writing(library: ctypes.CDLL, places: Iterable[str]) -> None:
    """Forbid all that is no writing to one of these files, or to what is in a folder."""
    version = library.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _QUERY_VERSION)
    if version < 1:
        return
    writes = _FS_WRITES | sum(bits for since, bits in _BY_VERSION.items() if version >= since)
    rules = struct.pack("<2Q", writes, _TCP) if version >= 4 else struct.pack("<Q", writes)
    ruleset = library.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return
    allowed = _WRITE_FILE | (_TRUNCATE & writes)
    for place in places:  # they stay open: procfs makes a folder anew once nobody holds it
        file = os.open(place, os.O_PATH | os.O_CLOEXEC)
        library.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("<Qi", allowed, file), 0)
    library.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    library.syscall(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _result(data: bytes) -> Any:
    try:
        answer = json.loads(data)
        if "result" in answer:
            return answer["result"]
        kind = getattr(errors, answer["error"])
        problem, remedy = str(answer["problem"]), str(answer["remedy"])
        if isinstance(kind, type) and issubclass(kind, EdgeportError):
            raise kind(problem, remedy=remedy)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        if isinstance(e, EdgeportError):
            raise
    raise _ended("answered nothing that makes sense")


def _crashed(status: int) -> EngineError:
    if os.WIFSIGNALED(status):
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        limited = f" within {most >> 20} MiB of addresses (ulimit -v), and may need more"
        few = "" if most == resource.RLIM_INFINITY else limited
        return _ended(f"was ended by {ending(-os.WTERMSIG(status))}{few}")
    if os.WEXITSTATUS(status) == OUT_OF_MEMORY:
        return OutOfMemoryError(
            f"{_CHILD} ran out of memory",
            remedy="end what else takes memory, or use a larger machine; a small model that takes "
            "so much is not to be trusted",
        )
    return _ended("ended without an answer")


def _ended(how: str) -> EngineError:
    return EngineError(
        f"{_CHILD} {how}",
        remedy="don't use this artefact with this backend; a slow machine: --time-limit SECONDS",
    )
