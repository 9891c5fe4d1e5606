"""An order for an engine, answered from the cache where it was built before."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import edgeport
from edgeport.runtimes import files
from edgeport.runtimes.cuda.gpus import gpus
from edgeport.runtimes.errors import StorageError
from edgeport.runtimes.weights.external import locations

from . import building
from .cache import EngineCache, EngineKey
from .library import Library, load
from .order import Built, Order, Progress, Refused

_BUFFER_BYTES = 2**20


def build(
    order: Order,
    time_s: float,
    memory_bytes: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Built | Refused:
    """Build an engine as ``building.build`` does, unless it is in the user's cache.

    Args:
        order: What to build.
        time_s: Wall time that it may take.
        memory_bytes: Beyond what the library takes when it is loaded; ``None`` for no limit.
        on_progress: Called at most ten times a second while it is built.

    Returns:
        What the build said, now or then; what the user should know of the cache is among the
        warnings.

    Raises:
        BackendMissingError: The library, or the GPU that the engine is for, is not here.
        EngineError: It took too long, or the process died.
        EdgeportError: What the process met, as ``builder.make``.
    """

    def anew() -> Built | Refused:
        return building.build(order, time_s, memory_bytes, on_progress)

    note: str | None
    try:
        cache = EngineCache()
    except StorageError as e:
        answer, note = anew(), e.problem
    else:
        answer, note = build_or_reuse(order, load(order.library), cache, anew)
    if isinstance(answer, Refused) or note is None:
        return answer
    return replace(answer, warnings=(*answer.warnings, f"the cache of engines: {note}"))


class _RefusedError(Exception):
    """Passes through the cache, which keeps engines only."""

    def __init__(self, answer: Refused) -> None:
        super().__init__()
        self.answer = answer


def build_or_reuse(
    order: Order, library: Library, cache: EngineCache, build: Callable[[], Built | Refused]
) -> tuple[Built | Refused, str | None]:
    """Write the engine of an order, built now or before.

    Args:
        order: What to build. Its timing cache changes how long that takes, and not the engine.
        library: That builds it.
        cache: Where engines are kept.
        build: Builds it, and writes it where the order says.

    Returns:
        What the build said, now or then, and what the user should know of the cache.

    Raises:
        BackendMissingError: The engine is for the GPU of this machine, and there is none.
        StorageError: The engine cannot be written.
        OSError: The model cannot be read.
    """
    engine = Path(order.engine)

    def make() -> bytes:
        answer = build()
        if isinstance(answer, Refused):
            raise _RefusedError(answer)
        return _with_answer(answer, engine.read_bytes())

    try:
        kept = cache.get(engine_key(order, library), make)
    except _RefusedError as e:
        return e.answer, None
    answer, data = _answer_and_engine(kept.data)
    if not kept.built:
        files.write(engine, data)
    return answer, kept.note


def engine_key(order: Order, library: Library) -> EngineKey:
    """What an order's engine is for.

    TensorRT builds for the GPU that it finds, which is cuda:0; TensorRT-RTX for compute
    capabilities, or for all that it knows.

    Raises:
        BackendMissingError: The engine is for the GPU of this machine, and there is none.
        EngineError: The GPU's driver does not answer.
        OSError: The model cannot be read.
    """
    gpu, capability = "", ",".join(order.options.compute_capabilities)
    if library.name == "tensorrt":
        found = gpus()
        gpu, capability = found.names[0], found.capabilities[0]
    options = asdict(order)
    for place in ("library", "onnx", "engine", "signature"):
        del options[place]
    del options["options"]["timing_cache"]
    return EngineKey(
        onnx_sha256=_hash(Path(order.onnx)),
        library=library.name,
        version=library.version,
        gpu=gpu,
        compute_capability=capability,
        options={
            **options,
            "signature": order.signature.to_json(),
            "edgeport": edgeport.__version__,
        },
    )


def _hash(path: Path) -> str:
    """Of a model and the files that it reads, each with its name."""
    data = path.read_bytes()
    digest = hashlib.sha256(data)
    for name in sorted(set(locations(data))):
        digest.update(name.encode() + b"\0")
        with (path.parent / name).open("rb") as file:
            while chunk := file.read(_BUFFER_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _with_answer(answer: Built, engine: bytes) -> bytes:
    told = json.dumps(asdict(answer)).encode()
    return b"".join((len(told).to_bytes(8, "little"), told, engine))


def _answer_and_engine(data: bytes) -> tuple[Built, bytes]:
    end = 8 + int.from_bytes(data[:8], "little")
    told = json.loads(data[8:end])
    lists = {name: tuple(told[name]) for name in ("inputs_of_values", "warnings")}
    return Built(**{**told, **lists}), data[end:]
