"""The interface that every backend implements, the table of backends, and how one is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, Self, cast

from .devices import DeviceKind, GpuOptions, check_device, device_kind
from .errors import BackendMissingError, ContractError, EngineError, MissingFileError, UsageError
from .inputs import Array
from .needs import needs
from .signature import Signature
from .values import dataclass, field, replace

if TYPE_CHECKING:  # every import is felt on a small device
    from pathlib import Path
    from types import TracebackType

MOST_THREADS: Final = 1024
"""An engine starts as many as it is told to, and takes minutes for a slip of the finger."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a caller may ask of a session.

    Attributes:
        threads: Threads inside one operator; ``None`` for the CPUs this process may use.
        signature: What the artefact must declare; ``None`` to accept what it declares.
        optimize: Whether an engine may rewrite the graph when it opens it. ``False`` runs the
            graph as it was written, for a proof: an optimiser can hide a defect, such as a
            Dropout left in training mode. It changes nothing but ONNX Runtime, because the torch
            backends open every graph as it is; what TorchScript's executor specialises later,
            while it runs, is not governed by this.
        spinning: Whether the threads of ONNX Runtime that have nothing to do look for work in a
            busy loop: quicker when calls follow one another, costly when they don't. The torch
            backends have no such choice, and refuse ``False``.
        name: What to call the file in an error; ``None`` for its path. A bundle opens a private
            copy, whose path says nothing.
        device: ``"cpu"``, ``"cuda"`` (the first GPU) or ``"cuda:N"``; ``None`` for the backend's
            own, the first of its ``devices``.
        gpu: What is asked of a GPU besides.
    """

    threads: int | None = None
    signature: Signature | None = None
    optimize: bool = True
    spinning: bool = True
    name: str | None = None
    device: str | None = None
    gpu: GpuOptions = field(default_factory=GpuOptions)

    def __post_init__(self) -> None:
        check_device(self.device)
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise UsageError(
                f"{self.threads} threads were asked for, expected 1 to {MOST_THREADS}",
                remedy="leave it out to use every CPU that this process may use",
            )


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What is really in use, read back from the live engine.

    Attributes:
        device: ``"cpu"``, or ``"cuda:0"`` with the number that was found to be in use.
        precision: Of the model's floats; ``"tf32"`` where products of float32 are rounded so.
        cpu_nodes: What a session on a GPU computes on the CPU all the same, because that was
            allowed: operator and name of each node.
    """

    backend: str
    engine: str
    version: str
    provider: str
    device: str
    precision: str
    threads: int
    cpu_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can be used here; if not, why, and what mends it.

    Attributes:
        devices: What the build that is installed runs on, where builds differ.
    """

    usable: bool
    engine: str
    version: str | None = None
    provider: str | None = None
    reason: str | None = None
    remedy: str | None = None
    devices: tuple[DeviceKind, ...] = ()


class Session(Protocol):
    """An opened artefact: numpy in, numpy out, by name.

    Any object with these members will do. ``run`` may be called from several threads at once.
    """

    @property
    def signature(self) -> Signature:
        """Inputs and outputs, read from the artefact."""
        ...

    @property
    def engine(self) -> EngineInfo:
        """What is really in use."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Compute every output.

        Raises:
            InputError: An input does not fit the signature.
            EngineError: The engine failed, or answered something else than the signature says.
        """
        ...

    def close(self) -> None:
        """Give the engine's memory back; the session cannot be used afterwards."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


class Closes:
    """What is closed at the end of a ``with`` block."""

    def close(self) -> None:
        """Give back what is held: nothing, unless a class says so."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def closed() -> EngineError:
    """What a session that was closed says to whoever calls it."""
    return EngineError("the session is closed", remedy="open it again")


class _Module(Protocol):
    """A module that is a backend."""

    def open(self, path: Path, options: Options) -> Session: ...

    def probe(self) -> Availability: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a backend lives, the extra that installs its library, what it opens, where it runs.

    Attributes:
        devices: The first is the one it takes if it is left to itself.
        cuda_graphs: Whether it can record calls as a CUDA graph.
    """

    module: str
    extra: str | None
    format: str
    devices: tuple[DeviceKind, ...] = ("cpu",)
    cuda_graphs: bool = False

    def runs_on(self, device: str | None) -> bool:
        """Whether it can be told to run there; whether that is here, only opening tells."""
        return device is None or device_kind(device) in self.devices

    def on_gpu(self, device: str | None) -> bool:
        """Whether it runs on a GPU when it is told this device, or left to itself."""
        kind = device_kind(device) if device else next(iter(self.devices), "cpu")
        return kind == "cuda"


FORMATS: Final[Mapping[str, str]] = {  # format -> suffix of its files
    "onnx": ".onnx",
    "torchscript": ".ts",
    "pt2": ".pt2",
    "aotinductor": ".aoti",
    "onnx-strings": ".onnx",
    "tensorrt": ".engine",
    "tensorrt-rtx": ".rtx",
    "null": ".null",
}

BACKENDS: Final[Mapping[str, Backend]] = {
    "ort-cpu": Backend("edgeport.runtimes.ort.cpu", "ort", "onnx"),
    "ort-cuda": Backend(
        "edgeport.runtimes.ort.cuda", "cuda", "onnx", devices=("cuda",), cuda_graphs=True
    ),
    "libtorch": Backend(
        "edgeport.runtimes.libtorch.torchscript", "torch", "torchscript", devices=("cpu", "cuda")
    ),
    "torch": Backend("edgeport.runtimes.libtorch.pt2", "torch", "pt2", devices=("cpu", "cuda")),
    "aotinductor": Backend("edgeport.runtimes.libtorch.aotinductor", "torch", "aotinductor"),
    "tensorrt": Backend(
        "edgeport.runtimes.tensorrt.classic", "tensorrt", "tensorrt", devices=("cuda",)
    ),
    "tensorrt-rtx": Backend(
        "edgeport.runtimes.tensorrt.rtx", "tensorrt-rtx", "tensorrt-rtx", devices=("cuda",)
    ),
    "ort-strings": Backend("edgeport.runtimes.ort.strings", "ort", "onnx-strings"),
    "null": Backend("edgeport.runtimes.null", None, "null", devices=()),
}


def backend(name: str) -> Backend:
    """Look a backend up.

    Raises:
        UsageError: There is no such backend.
    """
    if name not in BACKENDS:
        known = [known for known in BACKENDS if known != "null"]
        raise UsageError(f"no backend is named {name!r}", remedy=f"use one of {', '.join(known)}")
    return BACKENDS[name]


def probe(name: str, device: str | None = None) -> Availability:
    """Say whether a backend can be used here. Imports its library; never raises for a missing one.

    Args:
        name: The backend.
        device: As in ``Options``.

    Raises:
        UsageError: There is no such backend.
    """
    found = backend(name)
    try:
        told = _load(name).probe()
    except BackendMissingError as e:
        return Availability(False, found.extra or name, reason=e.problem, remedy=e.remedy)
    if device is None or not told.devices or device_kind(device) in told.devices:
        return told
    return replace(
        told,
        usable=False,
        reason=f"{told.engine} {told.version} was built for {' and '.join(told.devices)} alone",
        remedy=f"install a build of {told.engine} for {device_kind(device)}, or leave it out",
    )


def open_artefact(path: Path, name: str, options: Options | None = None) -> Session:
    """Open one compiled file with one backend. The file is trusted: check its hash first.

    Raises:
        UsageError: There is no such backend, or it has no such device.
        BackendMissingError: Its library is not installed.
        MissingFileError: ``path`` is not a file.
        EngineError: The engine refused the file.
        ContractError: The engine does not do what ``options`` ask for.
    """
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="check the path")
    options = options or Options()
    check_options(name, options)
    return _load(name).open(path, options)


def check_options(name: str, options: Options) -> None:
    """Refuse what a backend never does, before anything is opened.

    Raises:
        UsageError: There is no such backend, it has no such device, or no such option.
    """
    require_device(name, options.device)
    found = backend(name)
    if not found.on_gpu(options.device) and options.gpu != GpuOptions():
        raise UsageError(
            f"{name} runs on the CPU here, which takes no option of a GPU",
            remedy="ask for a GPU: --device cuda; or leave the options of a GPU out",
        )
    if options.gpu.cuda_graph and not found.cuda_graphs:
        able = [other for other, entry in BACKENDS.items() if entry.cuda_graphs]
        raise UsageError(
            f"backend {name!r} records no CUDA graph", remedy=f"use {' or '.join(able)}"
        )


def require_device(name: str, device: str | None) -> None:
    """Refuse a device that a backend never runs on.

    Raises:
        UsageError: There is no such backend, or it has no such device.
    """
    found = backend(name)
    if not found.runs_on(device):
        others = [other for other, entry in BACKENDS.items() if entry.runs_on(device)]
        own = " or ".join(found.devices) or "no device"
        raise UsageError(
            f"backend {name!r} runs on {own}, not on {device}",
            remedy=f"leave the device out, or use {' or '.join(others)}",
        )


def check_signature(path: Path, found: Signature, options: Options) -> None:
    """Compare what an artefact declares with what was asked for.

    Raises:
        ContractError: They differ.
    """
    if options.signature is not None and found != options.signature:
        raise ContractError(
            f"{options.name or path} declares {found}\n  but {options.signature} was asked for",
            remedy="export the model again, and open the artefact of that export",
        )


def _load(name: str) -> _Module:
    found = backend(name)
    held = _uninterrupted(is_held=found.extra != "torch")  # torch takes seconds, and is Python
    with needs(f"backend {name!r}", found.extra or name), held:
        return cast(_Module, import_module(found.module))  # the table promises the functions


@contextlib.contextmanager
def _uninterrupted(*, is_held: bool) -> Iterator[None]:
    """Let Ctrl-C come behind the block.

    ONNX Runtime's library swallows it while it is loaded: the command then went on, with or without
    that backend.
    """
    import signal

    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if is_held else ()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def default_backend(device: str | None) -> str:
    """The backend that opens ONNX on a device: ``"ort-cpu"`` or ``"ort-cuda"``.

    Raises:
        UsageError: There is no such device.
    """
    check_device(device)
    fitting = (name for name, entry in BACKENDS.items() if entry.format == "onnx")
    return next(name for name in fitting if BACKENDS[name].runs_on(device))


def is_expected(name: str) -> bool:
    """Whether a backend is to be tried if nobody named one, nor a device.

    One that needs a GPU is not, where it is not usable and its artefacts can be opened without:
    most machines have none. ``edgeport doctor`` tells what is in its way.
    """
    entry = BACKENDS[name]
    on_cpu = {other.format for other in BACKENDS.values() if "cpu" in other.devices}
    return not entry.on_gpu(None) or entry.format not in on_cpu or probe(name).usable
