"""A forked child that answers with bytes, within limits of time and memory.

A fork has everything that the process has, so nothing is imported or copied twice. OpenMP's
threads are the exception: they do not survive it, and a parallel region of the child would wait
for them for ever. So torch gets one thread there, as in DataLoader's workers.
https://github.com/pytorch/pytorch/issues/17199
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import Final, NoReturn

from .private_copy import free_memory_bytes

OUT_OF_MEMORY: Final = 12
"""Exit code of a child that Python's own MemoryError ended: ENOMEM."""

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Each ends a command, or a server; SIGHUP where ``nohup`` has not told us to ignore it."""

_CHUNK_BYTES: Final = 2**16
_LONGEST_POLL_MS: Final = 2**31 - 1  # a C int: 24 days
_SET_PDEATHSIG: Final = 1
_FAILED_STATUS: Final = 1 << 8
"""Of a process that ends with exit code 1."""


def run_forked(
    answer: Callable[[], bytes], time_s: float, largest_bytes: int = sys.maxsize
) -> tuple[bytes | None, int]:
    """Call a function in a child process.

    Args:
        answer: What the child does; it calls ``restrict`` first.
        time_s: Wall time after which the child is ended, with all that it started.
        largest_bytes: More than this is no answer either.

    Returns:
        What it answered, ``None`` if that was late or too long; and its wait status, which is a
        guess where the program ignores SIGCHLD.
    """
    reader, writer = os.pipe()
    try:
        child = fork()
    except BaseException:  # no process left, or Ctrl-C
        os.close(reader)
        os.close(writer)
        raise
    if child == 0:
        os.close(reader)
        _live(answer, writer)
    os.close(writer)
    data = None
    try:
        data = _read(reader, time_s, largest_bytes)
    finally:
        os.close(reader)
        if data is None:  # too late, or Ctrl-C
            _kill_group(child)
        status = _wait_status(child, answered=bool(data))
    return data, status


def _wait_status(child: int, *, answered: bool) -> int:
    """What a child ended with; a guess, where SIGCHLD is ignored or somebody else waited for it."""
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:
        return 0 if answered else _FAILED_STATUS


def fork() -> int:
    """As ``os.fork``; nothing that was printed is printed twice, and no Ctrl-C is lost.

    A handler that raises, as that of Ctrl-C, raises here, and then there is no child.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with _held_back() as came, warnings.catch_warnings():
        # Python 3.12 warns of any fork beside threads
        warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork")
        child = os.fork()
    if child != 0:  # there they are the parent's
        try:
            for call in came:
                call()
        except BaseException:
            os.kill(child, signal.SIGKILL)
            _wait_status(child, answered=False)
            raise
    return child


@contextlib.contextmanager
def _held_back() -> Iterator[list[Callable[[], object]]]:
    """Collect the calls of Python's signal handlers, in place of making them.

    What they raise in a function of ``os.register_at_fork``, of which ``logging`` has one, Python
    prints and forgets.
    """
    came: list[Callable[[], object]] = []
    before: dict[int, Callable[[int, FrameType | None], object]] = {}
    if threading.current_thread() is threading.main_thread():  # no other has handlers
        handlers = {number: signal.getsignal(number) for number in ENDING}
        before = {number: each for number, each in handlers.items() if callable(each)}
    for number, handler in before.items():
        signal.signal(number, lambda *call, handler=handler: came.append(partial(handler, *call)))
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def restrict(memory_bytes: int | None, *, gpu: bool = False) -> None:
    """Called in the child: end with the parent, leave no core, take no more than some memory.

    Args:
        memory_bytes: Beyond what the process already has; ``None`` for what is free.
        gpu: Whether it uses a GPU. CUDA reserves as many addresses as all GPUs and the machine have
            memory, so that what is written is counted then, and not what is reserved (Linux 4.7).
    """
    os.setsid()
    end_with_parent()
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allowed = memory_bytes or free_memory_bytes()
    if allowed is not None:
        limit_growth(allowed, gpu=gpu)


def end_with_parent() -> None:
    """Called in a child: the kernel kills it when its parent ends."""
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)


def limit_growth(most_bytes: int, *, gpu: bool = False) -> None:
    """Let this process take no more memory than so much beyond what it has.

    A limit that is set already (``ulimit -v``) is never raised.

    Args:
        most_bytes: So much.
        gpu: As for ``restrict``.
    """
    field, kind = (5, resource.RLIMIT_DATA) if gpu else (0, resource.RLIMIT_AS)
    most = _memory_bytes(field) + most_bytes
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _live(answer: Callable[[], bytes], writer: int) -> NoReturn:
    """The life of the child; it never returns to the caller's code."""
    gc.freeze()  # to look through what the parent has would copy all of its pages
    code = 1
    try:
        data = answer()
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)
        code = 0
    except MemoryError:
        code = OUT_OF_MEMORY
    except BaseException as e:  # told by its text: nothing else can be done here
        print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)  # noqa: T201
    finally:
        os._exit(code)


def _kill_group(child: int) -> None:
    """The process and all that it started."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:  # it has not made its group yet, or has ended with SIGCHLD ignored
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _memory_bytes(field: int) -> int:
    """Of this process: field 0 is all its addresses, 5 what is private and may be written."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  # a path would be imported
        return int(file.read().split()[field]) * resource.getpagesize()


def _read(reader: int, time_s: float, largest_bytes: int) -> bytes | None:
    """All that comes until the end of the pipe; nothing if that is late, or too much."""
    deadline = time.monotonic() + time_s
    ready = select.poll()  # select.select knows no handle above 1023
    ready.register(reader, select.POLLIN)
    chunks: list[bytes] = []
    size = 0
    while size <= largest_bytes:
        left_ms = 1000 * max(0.0, deadline - time.monotonic())
        if not ready.poll(min(left_ms, _LONGEST_POLL_MS)):
            return None
        chunk = os.read(reader, _CHUNK_BYTES)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
        size += len(chunk)
    return None
