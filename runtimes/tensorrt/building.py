"""Build an engine in a process of its own, and wait for it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

from edgeport.runtimes.errors import EdgeportError, EngineError
from edgeport.runtimes.safety import fresh

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
    quiet = subprocess.DEVNULL  # TensorRT says there again what its errors say
    process, connection = fresh.started(
        _LIFE, memory_bytes, stdout=quiet, stderr=subprocess.PIPE, env=_for_gpu(gpu)
    )
    with process, connection:
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
    how = f"{'ended with' if process.returncode >= 0 else 'was ended by'} "
    how += fresh.ending(process.returncode)
    last = output.decode("utf-8", "replace").strip().rpartition("\n")[2][-_TAIL_CHARACTERS:]
    return EngineError(
        f"the process that built the engine {how}{f': {last}' if last else ''}",
        remedy="SIGKILL, bad_alloc and MemoryError are a lack of memory: --memory-limit; "
        "else try another release of the library",
    )


def _for_gpu(number: int) -> dict[str, str]:
    """What lets a process see one GPU, counted among those that this process may use."""
    if number == 0:
        return {}
    visible = os.environ.get(_VISIBLE)
    return {_VISIBLE: visible.split(",")[number].strip() if visible else str(number)}
