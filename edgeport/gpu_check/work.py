"""What a child process does: it takes tasks, and answers each with figures or with an error."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from edgeport.runtimes import Bundle
from edgeport.runtimes.bench import Sweep, benchmark
from edgeport.runtimes.devices import device_kind
from edgeport.runtimes.errors import EdgeportError, EngineError, OutOfMemoryError
from edgeport.runtimes.safety.forked import end_with_parent

from .child import Figures
from .engines import add_engine
from .proof import prove
from .soak import soak
from .tasks import Benchmark, BuildEngine, Prove, Soak, Task, gpu_options


def serve(descriptor: int) -> None:
    """Answer until the other end is closed.

    Args:
        descriptor: Of the socket.
    """
    end_with_parent()
    connection: Connection[Any, Task] = Connection(descriptor)
    while True:
        try:
            task = connection.recv()
        except (EOFError, ConnectionError):
            return
        connection.send(answer(task, connection.send))


def answer(task: Task, tell: Callable[[Figures], None]) -> Figures | EdgeportError:
    """Do a task.

    Args:
        task: What to do.
        tell: Told of figures before the end, by a soak.
    """
    try:
        return _done(task, tell)
    except EdgeportError as e:
        return e
    except MemoryError as e:
        return OutOfMemoryError(f"out of memory: {e}", remedy="use a larger machine")
    except Exception as e:  # an engine's own, or a defect of ours: a row, not the end of the check
        return EngineError(
            f"{type(e).__name__}: {e}", remedy="edgeport verify --debug shows where it is from"
        )


def _done(task: Task, tell: Callable[[Figures], None]) -> Figures:
    match task:
        case BuildEngine(bundle, library, to, gpu):
            return add_engine(bundle, library, to, gpu)
        case Prove(place):
            return prove(place)
        case Soak(place, seconds):
            return soak(place, seconds, tell)
        case Benchmark(bundle, backends, device, budget_s):
            read = Bundle.read(bundle)
            sweep = sweep_of(read, backends, device)
            return benchmark([read], sweep, budget_s=budget_s).to_json()


def sweep_of(bundle: Bundle, backends: tuple[str, ...], device: str) -> Sweep:
    """Every way to call these backends: the session, and the engine on what is bound already.

    On a GPU with a CUDA graph too, which needs shapes that are all fixed.
    """
    fixed = not bundle.manifest.signature.dimensions
    graphs = (False, True) if fixed and device_kind(device) == "cuda" else (False,)
    return Sweep(
        backends=backends,
        devices=(device,),
        engine_only=True,
        gpu=gpu_options(device),
        cuda_graph=graphs,
    )
