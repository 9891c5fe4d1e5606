"""Build an engine in a process of its own, and wait for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import edgeport
from edgeport.runtimes.errors import EdgeportError, EngineError

from .order import Built, Order, Progress, Refused

_LIFE: Final = "from edgeport.runtimes.tensorrt.builder import serve; serve({}, {})"
_TAIL_CHARACTERS: Final = 300
_END_S: Final = 30
_VISIBLE: Final = "CUDA_VISIBLE_DEVICES"


def build(
    order: Order,
    time_s: float,
    memory_bytes: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    gpu: int = 0,
) -> Built | Refused:
    """Build an engine. However this ends, the process has ended, and no half file is left.

    Args:
        order: What to build.
        time_s: Wall time that it may take.
        memory_bytes: Beyond what the library takes when it is loaded; ``None`` for no limit.
        on_progress: Called at most ten times a second.
        gpu: For which of those that may be used here TensorRT builds; it builds for the first.

    Raises:
        EngineError: It took too long, or the process died.
        EdgeportError: What the process met, as ``builder.make``.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _LIFE.format(theirs.fileno(), memory_bytes)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # TensorRT says there again what its errors say
            stderr=subprocess.PIPE,
            env=_environment(gpu),
            process_group=0,  # Ctrl-C comes here, and the process is ended below
        )
    with process, Connection(ours.detach()) as connection:
        try:
            connection.send(order)
            return _answer(connection, time.monotonic() + time_s, time_s, on_progress)
        except (EOFError, ConnectionError) as e:
            raise _died(process) from e
        finally:
            process.kill()


def _answer(
    connection: Connection[Order, Any],
    deadline: float,
    time_s: float,
    on_progress: Callable[[Progress], None],
) -> Built | Refused:
    while connection.poll(max(0.0, deadline - time.monotonic())):
        reply = connection.recv()
        if isinstance(reply, EdgeportError):
            raise reply
        if not isinstance(reply, Progress):
            answer: Built | Refused = reply
            return answer
        on_progress(reply)
    raise EngineError(
        f"the build took longer than {time_s:g} s", remedy="allow more: --time-limit SECONDS"
    )


def _died(process: subprocess.Popen[bytes]) -> EngineError:
    try:
        _, output = process.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:  # it crashes slowly: a core of many GB, a driver that hangs
        process.kill()
        _, output = process.communicate()
    code = process.returncode
    how = f"ended with exit code {code}" if code >= 0 else f"was ended by {_signal(-code)}"
    last = output.decode("utf-8", "replace").strip().rpartition("\n")[2][-_TAIL_CHARACTERS:]
    return EngineError(
        f"the process that built the engine {how}{f': {last}' if last else ''}",
        remedy="SIGKILL, bad_alloc and MemoryError are a lack of memory: --memory-limit; "
        "else try another release of the library",
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time one
        return f"signal {number}"


def _environment(gpu: int) -> dict[str, str]:
    """Ours, one GPU, and the place that this edgeport was imported from: it may be a checkout."""
    home = str(Path(edgeport.__file__).parent.parent)
    known = os.environ.get("PYTHONPATH")
    found = {**os.environ, "PYTHONPATH": home if not known else f"{home}{os.pathsep}{known}"}
    if gpu:  # counted among those that this process may use
        visible = os.environ.get(_VISIBLE)
        found[_VISIBLE] = visible.split(",")[gpu].strip() if visible else str(gpu)
    return found
