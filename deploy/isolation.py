"""Compilers run in a process of their own: they may crash, hang, or eat the memory there.

The process is a fork, so that any module can be compiled, also one from a notebook, and nothing
that a compiler does to it is seen here. OpenMP's threads do not survive a fork: a parallel
region would wait for them for ever, so torch gets one thread (as DataLoader's workers do).
https://github.com/pytorch/pytorch/issues/17199
"""

import ctypes
import faulthandler
import os
import pickle
import resource
import select
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NoReturn, TypeVar

import torch

from edgeport.runtimes import EdgeportError

T = TypeVar("T")

_PR_SET_PDEATHSIG: Final = 1
_CHUNK_BYTES: Final = 2**16
_TAIL_BYTES: Final = 2**15
_OUT_OF_MEMORY: Final = 12
"""Exit code of a process that Python's own MemoryError ended: ENOMEM."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one compiler may use.

    Attributes:
        time_s: Wall time; large models take minutes.
        memory_bytes: Memory beyond what the process already has; ``None`` for what is free.
    """

    time_s: float = 1800.0
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Killed:
    """How a process ended without an answer.

    Attributes:
        reason: ``time``, ``memory`` or ``crash``.
        problem: What happened, for the user.
        output: The end of what it wrote.
    """

    reason: str
    problem: str
    output: str


def run_isolated(function: Callable[[], T], limits: Limits) -> T | Killed:
    """Call a function in a forked process.

    Args:
        function: Its result must be picklable; an ``EdgeportError`` that it raises is raised here.
        limits: What it may use.

    Returns:
        What it returned, or how it was ended.

    Raises:
        EdgeportError: The function raised it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as output:
        with warnings.catch_warnings():  # Python 3.12 warns of any fork beside threads
            warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork")
            child = os.fork()
        if child == 0:
            os.close(reader)
            _answer(function, limits, writer, output.fileno())
        os.close(writer)
        data = None
        try:
            data = _read(reader, limits.time_s)
        finally:
            os.close(reader)
            if data is None:  # too late, or Ctrl-C
                _kill_group(child)
            _, status = os.waitpid(child, 0)
        if data and status == 0:
            result: T | EdgeportError = pickle.loads(data)
            if isinstance(result, EdgeportError):
                raise result
            return result
        return _killed(status, data is None, limits, _tail(output))


def _kill_group(child: int) -> None:
    """The process and all that it started."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has not made its group yet
        os.kill(child, signal.SIGKILL)


def _answer(function: Callable[[], object], limits: Limits, writer: int, output: int) -> NoReturn:
    """The life of the forked process; it never returns to the caller's code."""
    code = 1
    try:
        _settle(limits, output)
        try:
            result: object = function()
        except EdgeportError as e:
            result = e
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(result, pipe)
        code = 0
    except MemoryError:
        code = _OUT_OF_MEMORY
    except BaseException as e:  # told by its text: nothing else can be done here
        print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)  # noqa: T201
    finally:
        os._exit(code)


def _settle(limits: Limits, output: int) -> None:
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = os.fdopen(os.dup(output), "w", buffering=1)
    faulthandler.enable(sys.stderr)  # a crash tells which of the user's layers it was in
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allowed = _address_space_bytes() + (limits.memory_bytes or free_memory_bytes())
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    torch.set_num_threads(1)


def _address_space_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def free_memory_bytes() -> int:
    """What the machine can still give, without swapping."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return resource.RLIM_INFINITY


def _read(reader: int, time_s: float) -> bytes | None:
    """All that comes until the end of the pipe; nothing if that is late."""
    deadline = time.monotonic() + time_s
    chunks: list[bytes] = []
    while True:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        chunk = os.read(reader, _CHUNK_BYTES)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _TAIL_BYTES))
    return output.read().decode("utf-8", "replace").strip()


def _killed(status: int, late: bool, limits: Limits, output: str) -> Killed:
    if late:
        return Killed("time", f"it took longer than {limits.time_s:g} s", output)
    exited = os.WIFEXITED(status)
    if "bad_alloc" in output or (exited and os.WEXITSTATUS(status) == _OUT_OF_MEMORY):
        return Killed("memory", "it ran out of memory", output)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return Killed("crash", f"it was ended by {name}", output)
    return Killed(
        "crash", f"it ended: {output.splitlines()[-1] if output else 'no reason'}", output
    )
