"""What a test may name: a bundle, a file of ours, or a file that anybody made."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    EngineError,
    FormatError,
    MissingFileError,
    Options,
    Session,
    Signature,
    TensorSpec,
    UsageError,
    probe,
)
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.session import BACKENDS, FORMATS, open_artefact

_SUFFIXES: Final = {suffix: name for name, suffix in FORMATS.items() if name != "onnx-strings"} | {
    ".pt": "torchscript"
}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to open an artefact.

    Attributes:
        backend: Its name, and what is special about this way.
        open: Opens it.
    """

    backend: str
    open: Callable[[], Session]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the module takes and gives on one sample: what a file without a signature declares."""

    inputs: Mapping[str, Array]
    outputs: Sequence[Array]


def ways(path: Path, backend: str | None, answers: Sequence[Answer]) -> list[Way]:
    """Every way in which an artefact is to be checked; ONNX also as it was written.

    Args:
        path: A bundle, or a file: ``.onnx``, ``.ts``, ``.pt`` (TorchScript), ``.pt2``. It is
            trusted: opening a torch file runs code in it.
        backend: Only this one; ``None`` for all that are usable here on the CPU.
        answers: To make a signature of, where a file has none.

    Raises:
        MissingFileError: There is nothing at ``path``.
        UsageError: No backend opens it, or not the one that was asked for.
        BackendMissingError: None of them is usable here.
        EdgeportError: The bundle cannot be read.
    """
    if not path.exists():
        raise MissingFileError(f"no such artefact: {path}", remedy="check the path")
    is_bundle = path.is_dir() or path.suffix == ".edge"  # of one file, too
    bundle = Bundle.read(path) if is_bundle else None
    fitting = bundle.backends if bundle else _openers(path)
    if backend is not None and backend not in fitting:
        raise UsageError(
            f"backend {backend!r} does not open {path.name}",
            remedy=f"leave it out, or use {' or '.join(fitting)}",
        )
    on_cpu = [name for name in fitting if BACKENDS[name].runs_on("cpu")]
    wanted = [backend] if backend else on_cpu or list(fitting)
    usable = [name for name in wanted if probe(name).usable]
    if not usable or (backend and backend not in usable):
        found = probe(wanted[0])
        raise BackendMissingError(
            f"{path.name} cannot be checked here: {found.reason}", remedy=found.remedy or "skip it"
        )
    return [way for name in usable for way in _ways_of(path, bundle, name, answers)]


def _openers(path: Path) -> tuple[str, ...]:
    format_ = _SUFFIXES.get(path.suffix)
    found = tuple(name for name, backend in BACKENDS.items() if backend.format == format_)
    if not found or format_ == "null":
        raise UsageError(
            f"nothing opens {path.name}",
            remedy="name a bundle (NAME.edge), or a file: .onnx, .ts, .pt (TorchScript) or .pt2",
        )
    return found


def _ways_of(
    path: Path, bundle: Bundle | None, name: str, answers: Sequence[Answer]
) -> Iterator[Way]:
    for optimize in (True, False) if BACKENDS[name].format.startswith("onnx") else (True,):
        options = Options(threads=1, optimize=optimize)

        def opened(options: Options = options) -> Session:
            if bundle is not None:
                return bundle.open(name, options)
            try:
                return open_artefact(path, name, options)
            except FormatError:  # it carries no signature: it is not one of ours
                return _unsigned(path, name, answers, options)

        yield Way(name if optimize else f"{name}, graph as written", opened)


def _unsigned(path: Path, name: str, answers: Sequence[Answer], options: Options) -> Session:
    from edgeport.runtimes.libtorch.calls import TorchSession

    with _loading(path):
        return TorchSession(name, _load(path, name), _signature(answers[0]), options)


@contextmanager
def _loading(path: Path) -> Iterator[None]:
    from edgeport.runtimes.libtorch.calls import last_line

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.13 deprecates every torch.jit entry
            yield
    except Exception as e:  # RuntimeError, zipfile's, json's, whatever the archive's code raises
        raise EngineError(
            f"torch cannot open {path}: {last_line(e)}",
            remedy="check that its suffix is right, and that torch is as new as its producer",
        ) from e


def _load(path: Path, name: str) -> Callable[..., Any]:
    """What the archive computes, as tensors in a row: strangers return dicts and more."""
    import torch

    from edgeport.deploy.sources import trees

    call: Any
    if BACKENDS[name].format == "pt2":
        call = torch.export.load(path).module()
    else:
        call = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return lambda *tensors: tuple(trees.tensors(call(*tensors)))


def _signature(answer: Answer) -> Signature:
    """Names from the sample; every size is free, since a file without a signature declares none."""
    outputs = [f"output_{index}" for index in range(len(answer.outputs))]
    return Signature(
        tuple(_spec(name, array, "input_") for name, array in answer.inputs.items()),
        tuple(
            _spec(name, array)
            for name, array in zip(
                outputs if len(outputs) > 1 else ["output"], answer.outputs, strict=True
            )
        ),
    )


def _spec(name: str, array: Array, prefix: str = "") -> TensorSpec:
    """An input may be called ``output``, as an output is, and has sizes of its own all the same."""
    sizes = tuple(f"{prefix}{name}_{axis}" for axis in range(array.ndim))
    return TensorSpec(name, str(array.dtype), sizes)
