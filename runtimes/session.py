"""The interface that every backend implements, the table of backends, and how one is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol, Self, cast

from .errors import BackendMissingError, ContractError, MissingFileError, UsageError
from .inputs import Array
from .signature import Signature

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
    """

    threads: int | None = None
    signature: Signature | None = None
    optimize: bool = True
    spinning: bool = True
    name: str | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and not 1 <= self.threads <= MOST_THREADS:
            raise UsageError(
                f"{self.threads} threads were asked for, expected 1 to {MOST_THREADS}",
                remedy="leave it out to use every CPU that this process may use",
            )


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What is really in use, read back from the live engine."""

    backend: str
    engine: str
    version: str
    provider: str
    device: str
    precision: str
    threads: int


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can be used here; if not, why, and what mends it."""

    usable: bool
    engine: str
    version: str | None = None
    provider: str | None = None
    reason: str | None = None
    remedy: str | None = None


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
            EngineError: The engine failed.
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


class _Module(Protocol):
    """A module that is a backend."""

    def open(self, path: Path, options: Options) -> Session: ...

    def probe(self) -> Availability: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a backend lives, the extra that installs its library, what it opens."""

    module: str
    extra: str | None
    format: str


FORMATS: Final[Mapping[str, str]] = {  # format -> suffix of its files
    "onnx": ".onnx",
    "torchscript": ".ts",
    "pt2": ".pt2",
    "onnx-strings": ".onnx",
    "null": ".null",
}

BACKENDS: Final[Mapping[str, Backend]] = {
    "ort-cpu": Backend("edgeport.runtimes.ort", "ort", "onnx"),
    "libtorch": Backend("edgeport.runtimes.libtorch", "torch", "torchscript"),
    "torch": Backend("edgeport.runtimes.pt2", "torch", "pt2"),
    "ort-strings": Backend("edgeport.runtimes.ort_strings", "ort", "onnx-strings"),
    "null": Backend("edgeport.runtimes.null", None, "null"),
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


def probe(name: str) -> Availability:
    """Say whether a backend can be used here. Imports its library; never raises for a missing one.

    Raises:
        UsageError: There is no such backend.
    """
    found = backend(name)
    try:
        return _load(name).probe()
    except BackendMissingError as e:
        return Availability(False, found.extra or name, reason=e.problem, remedy=e.remedy)


def open_artefact(path: Path, name: str, options: Options | None = None) -> Session:
    """Open one compiled file with one backend. The file is trusted: check its hash first.

    Raises:
        UsageError: There is no such backend.
        BackendMissingError: Its library is not installed.
        MissingFileError: ``path`` is not a file.
        EngineError: The engine refused the file.
        ContractError: The engine does not do what ``options`` ask for.
    """
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="check the path")
    return _load(name).open(path, options or Options())


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
    try:
        return cast(_Module, import_module(found.module))  # the table promises the two functions
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"backend {name!r} needs {e.name!r}, which is not installed",
            remedy=f"pip install 'edgeport[{found.extra}]'",
        ) from e
    except (ImportError, OSError) as e:  # installed, but a shared library of it does not load
        raise BackendMissingError(
            f"backend {name!r} cannot be loaded: {e}",
            remedy=f"pip install --force-reinstall 'edgeport[{found.extra}]'",
        ) from e
