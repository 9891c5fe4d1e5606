"""Export: compile, prove, pack. A bundle appears only if every artefact in it has passed."""

import contextlib
import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import safetensors.numpy
import torch
from torch import nn

from edgeport import __version__
from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    ParityError,
    Range,
    Report,
    SourceError,
    TensorSpec,
    UsageError,
    files,
    verify,
)
from edgeport.runtimes.bundle import MANIFEST
from edgeport.runtimes.golden import Golden, to_tensors
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.manifest import Artefact, Manifest, StoredFile
from edgeport.runtimes.session import FORMATS
from edgeport.runtimes.thresholds import Thresholds

from .onnx_graph import DEFAULT_OPSET, OPSETS, compile_onnx
from .program import compile_program
from .reference import make_golden
from .samples import Values
from .source import Source, make_source, positional_parameters, unwrapped
from .torchscript import compile_torchscript

GOLDEN: Final = "golden.safetensors"
REPORT: Final = "reports/parity.json"
DEFAULT_FORMATS: Final = ("onnx", "torchscript", "pt2")

_REMEDIES: Final = {
    "fail": "forward may depend on values or on a fixed size, which this format cannot hold: "
    "change it, or leave the format out with --format",
    "uninformative": "give --samples that make it vary, or allow it with --constant-output NAME",
}

OnStep = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Export:
    """What an export made: the bundle, the source it was made from, the proof."""

    bundle: Bundle
    source: Source
    report: Report


def export(
    module: nn.Module,
    example_inputs: Mapping[str, torch.Tensor | Array] | Sequence[torch.Tensor] | torch.Tensor,
    output: str | Path,
    *,
    dimensions: Mapping[str, Mapping[int, str]] | None = None,
    ranges: Mapping[str, Range] | None = None,
    samples: Sequence[Mapping[str, Array]] = (),
    output_names: Sequence[str] | None = None,
    formats: Sequence[str] = DEFAULT_FORMATS,
    opset: int = DEFAULT_OPSET,
    thresholds: Thresholds | None = None,
) -> Export:
    """Compile a module, prove that every artefact computes what it computes, and pack a bundle.

    Args:
        module: Run in eval mode, on a copy.
        example_inputs: By name; or without names, in the order of forward, whose names they get.
            What is not free is fixed to their shapes; without ``samples``, values to prove with
            are drawn like theirs.
        output: The bundle: a folder that does not exist yet. The model's name
            is its name without ``.edge``.
        dimensions: Input name -> axis -> name of a free dimension: ``{"image": {0: "batch"}}``.
        ranges: Sizes that a free dimension may take; 1 and up where nothing is said.
        samples: Real inputs to prove with, each complete; rows are cut or repeated to the sizes
            that are tried.
        output_names: In the order of the result; ``None`` for a dict's keys or ``output_0``, ...
        formats: Some of ``onnx``, ``torchscript``, ``pt2``.
        opset: Of the ONNX file.
        thresholds: Where a verdict turns.

    Raises:
        ExistingFileError: ``output`` exists.
        SourceError: The module or a sample cannot be used as declared.
        UsageError: A format, opset, axis or range makes no sense.
        ExportError: A compiler refused the module.
        ContractError: A compiler wrote something else than was asked.
        ParityError: An artefact does not compute what the module computes.
        BackendMissingError: An artefact cannot be proved here, because its engine is missing.
        StorageError: The bundle cannot be written.

    Examples:
        >>> import torch
        >>> made = export(                                         # doctest: +SKIP
        ...     torch.nn.Linear(4, 1), {"x": torch.randn(2, 4)}, "linear.edge",
        ...     dimensions={"x": {0: "batch"}},
        ... )
    """
    files.refuse_existing(Path(output))
    example = _example(module, example_inputs)
    source = make_source(
        model_name(Path(output)),
        module,
        _specs(example, dimensions or {}),
        ranges or {},
        values=Values(samples, example),
        output_names=output_names,
    )
    return export_source(
        source, Path(output), formats=formats, opset=opset, thresholds=thresholds or Thresholds()
    )


def export_source(
    source: Source,
    output: Path,
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    opset: int = DEFAULT_OPSET,
    thresholds: Thresholds,
    on_step: OnStep | None = None,
) -> Export:
    """Do what ``export`` does with a source that is ready.

    Args:
        source: What to compile.
        output: A folder that does not exist yet.
        formats: Some of ``onnx``, ``torchscript``, ``pt2``.
        opset: Of the ONNX file.
        thresholds: Where a verdict turns.
        on_step: Called after each step with its name and its wall time in seconds.

    Raises:
        EdgeportError: As ``export``.
    """
    formats = (formats,) if isinstance(formats, str) else formats  # a str is a sequence too
    _check_request(source, formats, opset, thresholds)
    clock = _Clock(on_step)
    with files.new_folder(output) as folder:
        with clock.step("reference"):
            golden = make_golden(source)
        artefacts: list[Artefact] = []
        for name in formats:
            with clock.step(name):
                artefacts.append(_compile(source, name, opset, folder))
        stored = _store(folder, GOLDEN, safetensors.numpy.save(to_tensors(golden)))
        manifest = _manifest(source, tuple(artefacts), stored, golden, thresholds)
        with clock.step("parity"):
            report = verify(Bundle(folder, manifest))
            _refuse_unproved(report)
        (folder / REPORT).parent.mkdir()
        files.write(folder / REPORT, json.dumps(report.to_json(), indent=1, allow_nan=False))
        files.write(folder / MANIFEST, manifest.dumps())
    return Export(Bundle(output, manifest), source, report)


class _Clock:
    """Tells how long each step took."""

    def __init__(self, on_step: OnStep | None) -> None:
        self._on_step = on_step

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self._on_step is not None:
            self._on_step(name, time.perf_counter() - start)


def model_name(output: Path) -> str:
    """The name of a model: that of its bundle."""
    return output.name.removesuffix(".edge")


def _check_request(
    source: Source, formats: Sequence[str], opset: int, thresholds: Thresholds
) -> None:
    unknown = [name for name in formats if name not in DEFAULT_FORMATS]
    if unknown or not formats or len(set(formats)) != len(formats):
        raise UsageError(
            f"cannot export the formats {', '.join(formats) or '(none)'}",
            remedy=f"name each of these at most once: {', '.join(DEFAULT_FORMATS)}",
        )
    if opset not in OPSETS:
        raise UsageError(
            f"opset {opset} is not one that torch writes as asked",
            remedy=f"use {OPSETS.start} to {OPSETS.stop - 1}; the default is {DEFAULT_OPSET}",
        )
    outputs = [spec.name for spec in source.signature.outputs]
    absent = [name for name in thresholds.constant_outputs if name not in outputs]
    if absent:
        raise UsageError(
            f"no output is named {absent[0]!r}", remedy=f"the outputs are {', '.join(outputs)}"
        )


def _example(
    module: nn.Module,
    given: Mapping[str, torch.Tensor | Array] | Sequence[torch.Tensor] | torch.Tensor,
) -> dict[str, Array]:
    if not isinstance(given, Mapping):
        tensors = [given] if isinstance(given, torch.Tensor) else list(given)
        names = positional_parameters(unwrapped(module))
        if len(names) < len(tensors):
            raise SourceError(
                f"{len(tensors)} example inputs for forward({', '.join(names)})",
                remedy="pass them by name: {'image': tensor, ...}",
            )
        given = dict(zip(names, tensors, strict=False))
    return {name: _as_array(name, value) for name, value in given.items()}


def _as_array(name: str, value: torch.Tensor | Array) -> Array:
    try:
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.array(value)
    except TypeError as e:  # bfloat16, complex32, quantised
        raise SourceError(
            f"example input {name!r} cannot become a numpy array: {e}",
            remedy="give an example of another dtype; cast inside the module",
        ) from e
    if array.size == 0:
        raise SourceError(f"example input {name!r} is empty", remedy="give it at least one row")
    return array


def _specs(
    example: Mapping[str, Array], dimensions: Mapping[str, Mapping[int, str]]
) -> tuple[TensorSpec, ...]:
    for name, axes in dimensions.items():
        if name not in example or not all(0 <= axis < example[name].ndim for axis in axes):
            raise UsageError(
                f"dimensions name {name!r} with axes {sorted(axes)}, which the example has not",
                remedy=f"the example inputs are {', '.join(example)}",
            )
    return tuple(
        TensorSpec(
            name,
            str(array.dtype),
            tuple(
                dimensions.get(name, {}).get(axis, size) for axis, size in enumerate(array.shape)
            ),
        )
        for name, array in example.items()
    )


def _compile(source: Source, name: str, opset: int, folder: Path) -> Artefact:
    details: dict[str, int | str] = {}
    if name == "onnx":
        data, details = compile_onnx(source, opset)
    elif name == "torchscript":
        data = compile_torchscript(source)
    else:
        data = compile_program(source)
    stored = _store(folder, f"model{FORMATS[name]}", data)
    return Artefact(name, source.signature.precision, stored, details)


def _store(folder: Path, file: str, data: bytes) -> StoredFile:
    files.write(folder / file, data)
    return StoredFile(file, hashlib.sha256(data).hexdigest(), len(data))


def _manifest(
    source: Source,
    artefacts: tuple[Artefact, ...],
    stored: StoredFile,
    golden: Sequence[Golden],
    thresholds: Thresholds,
) -> Manifest:
    return Manifest(
        name=source.name,
        signature=source.signature,
        artefacts=artefacts,
        golden=stored,
        samples=tuple((sample.name, sample.kind) for sample in golden),
        thresholds=thresholds,
        producer={
            "edgeport": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "onnx": onnx.__version__,
        },
    )


def _refuse_unproved(report: Report) -> None:
    for backend in report.backends:
        if backend.outcome == "unusable":
            raise BackendMissingError(
                f"{backend.file} cannot be proved here: {backend.reason}",
                remedy=f"{backend.remedy}; or leave the format out with --format",
            )
        if backend.outcome != "pass":
            worst = [f"\n  {v.output}, {v.sample}: {v.reason}" for v in backend.failures[:3]]
            raise ParityError(
                f"{backend.file} is not proved on {backend.backend}: "
                f"{backend.reason}{''.join(worst)}",
                remedy=_REMEDIES[backend.outcome],
            )
