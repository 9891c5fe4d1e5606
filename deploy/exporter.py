"""The one call that most people need: a module, an example, a place for the bundle."""

import contextlib
import io
import keyword
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from edgeport.deploy.compilers.targets import find_target
from edgeport.deploy.sources.arguments import checked_tensor
from edgeport.deploy.sources.capture import Captured
from edgeport.deploy.sources.dimensions import Run, observed_dimensions, probed_dimensions
from edgeport.deploy.sources.drawing import Values
from edgeport.deploy.sources.flat import Call, Flat
from edgeport.deploy.sources.given import Arguments, Example, calls_of, samples_of
from edgeport.deploy.sources.modules import prepared, unwrapped
from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.shared_state import SharedState
from edgeport.deploy.sources.source import Source, make_source
from edgeport.deploy.sources.surroundings import left_outside
from edgeport.runtimes import Range, TensorSpec, UsageError, files
from edgeport.runtimes.bundles.container import refuse_name_of_model
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Precision, Thresholds
from edgeport.runtimes.sizes import spelled, sum_of
from edgeport.runtimes.tensorrt.order import EngineOptions

from .events import OnEvent, ignore
from .isolation import Limits
from .pipeline import Export, export_source
from .request import Request, default_formats

Dimensions: TypeAlias = Mapping[str, Mapping[int, str]]

Ranges: TypeAlias = Mapping[str, Range]


@left_outside()
def export(
    module: nn.Module,
    example_inputs: Example,
    output: str | Path,
    *,
    dimensions: Dimensions | Literal["infer"] | None = None,
    ranges: Mapping[str, Range] | None = None,
    samples: Sequence[Arguments] = (),
    output_names: Sequence[str] | None = None,
    formats: Sequence[str] | None = None,
    opset: int | None = None,
    target: str | None = None,
    keep_training_mode: bool = False,
    thresholds: Thresholds | None = None,
    limits: Limits | None = None,
    search_s: float = 0.0,
    labels: Array | torch.Tensor | Sequence[float] | None = None,
    repro: str | Path | None = None,
    engine: EngineOptions | None = None,
    precision: Precision | None = None,
    calibration: Sequence[Arguments] = (),
    on_event: OnEvent = ignore,
) -> Export:
    """Compile a module, prove that every artefact computes what it computes, and pack a bundle.

    Args:
        module: Run in eval mode, on a copy.
        example_inputs: Arguments of forward: by name, or in its order. Tensors and numpy arrays,
            alone or nested in tuples, lists, dicts and dataclasses, are inputs; anything else is
            baked in. What is not free is fixed to their shapes; without ``samples``, values to
            prove with are drawn like theirs. Or what ``capture`` recorded: then the calls are the
            samples, and what varied in them is free.
        output: The bundle: a folder that does not exist yet. The model's name
            is its name without ``.edge``.
        dimensions: Input name -> axis -> name of a free dimension: ``{"image": {0: "batch"}}``.
            A nested input is named by its path: ``hx_0``. ``"infer"`` frees every axis that
            the module accepts other sizes for.
        ranges: Sizes that a free dimension may take; 1 and up where nothing is said.
        samples: Real inputs to prove with, each given as the example is, or by the names of the
            inputs, and complete; rows are cut or repeated to the sizes that are tried.
        output_names: In the order of the result; ``None`` for a dict's keys or ``output_0``, ...
        formats: ``None`` for ``onnx``, ``torchscript`` and ``pt2``, or for ``onnx`` alone in a
            narrower precision. Or some of ``onnx``, ``torchscript``, ``pt2``, ``aotinductor``,
            ``tensorrt``, ``tensorrt-rtx``; the last two are built from ``onnx``, which comes with
            them, and are proved only where there is a GPU. ``aotinductor`` takes a C++ compiler and
            half a minute, and is for machines like this one. ``onnx-strings`` beside ``onnx`` for a
            module whose one input is text.
        opset: Of the ONNX file; ``None`` for 20, or the newest that the target reads.
        target: Where the ONNX file is to run: ``ort-1.20``, ``tensorrt-10``; ``None`` for engines
            of today.
        keep_training_mode: Export what the module does in training mode.
        thresholds: Where a verdict turns.
        limits: Time and memory for one compiler.
        search_s: Wall time to look for the inputs on which each backend is worst; the worst that
            are found are kept in the bundle.
        labels: Of the rows of ``samples``, in order: classes, or values like the first output.
            Each backend is scored by them beside the module, and may not be worse.
        repro: A folder that does not exist yet: if an artefact is wrong, the operator that is, as
            a small case with a script.
        engine: How engines are built.
        precision: ``float16`` or ``int8``: what the ONNX file, and engines that are built from it,
            compute in; ``bfloat16``: what these engines compute in alone. Inputs and outputs stay
            as they are. Proved by the rule for narrower precisions.
        calibration: Real inputs, like ``samples``, to measure ranges of values on, for ``int8``; a
            hundred rows or more. None for every second of ``samples``, or every second row of a
            single one.
        on_event: Called when a step begins and ends, and after each attempt to compile.

    Raises:
        ExistingFileError: ``output`` or ``repro`` exists.
        SourceError: The module or a sample cannot be used as declared.
        UsageError: A format, opset, target, axis or range makes no sense.
        ExportError: No compiler takes the module.
        ContractError: A compiler wrote something else than was asked.
        ParityError: An artefact does not compute what the module computes.
        BackendMissingError: An artefact cannot be proved here, because its engine is missing; or
            an engine cannot be built here.
        StorageError: The bundle cannot be written.

    Examples:
        >>> import torch
        >>> made = export(                                         # doctest: +SKIP
        ...     torch.nn.Linear(4, 1), {"x": torch.randn(2, 4)}, "linear.edge",
        ...     dimensions={"x": {0: "batch"}},
        ... )
    """
    files.refuse_existing(Path(output))
    source = source_of(
        model_name(Path(output)),
        module,
        example_inputs,
        dimensions,
        ranges,
        samples=samples,
        output_names=output_names,
        keep_training_mode=keep_training_mode,
    )
    chosen = default_formats(precision) if formats is None else formats
    request = Request(
        (chosen,) if isinstance(chosen, str) else tuple(chosen),
        opset,
        None if target is None else find_target(target),
        thresholds or Thresholds(),
        limits or Limits(),
        search_s,
        None if labels is None else _labels(labels),
        None if repro is None else Path(repro),
        engine or EngineOptions(),
        precision,
        samples_of(module, source.flat.call, calibration, "calibration"),
    )
    return export_source(source, Path(output), request, on_event)


@left_outside()
def source_of(
    name: str,
    module: nn.Module,
    example_inputs: Example,
    dimensions: Dimensions | Literal["infer"] | None = None,
    ranges: Mapping[str, Range] | None = None,
    *,
    samples: Sequence[Arguments] = (),
    sample_names: Sequence[str] = (),
    output_names: Sequence[str] | None = None,
    keep_training_mode: bool = False,
) -> Source:
    """The source that ``export`` compiles; the arguments are the same.

    ``sample_names`` are what to call the samples in an error; numbers where nothing is said.

    Raises:
        EdgeportError: As ``export``.
    """
    _check_ranges(ranges or {})
    calls = calls_of(module, example_inputs)
    shared = SharedState.of(unwrapped(module))  # of now: to find dimensions is to run it
    call, example = calls[0]
    observed = [arrays for _, arrays in calls]
    found: Ranges = {}
    if dimensions is None and isinstance(example_inputs, Captured):
        run = _shapes_of(module, call, keep_training_mode)
        dimensions, found = observed_dimensions(observed, run)
    elif isinstance(dimensions, str):
        _check_inferred(dimensions)
        dimensions, found = probed_dimensions(_shapes_of(module, call, keep_training_mode), example)
    given = samples_of(module, call, samples, "samples", sample_names)
    real = [*given, *(observed if isinstance(example_inputs, Captured) else [])]
    declared = {**found, **(ranges or {})}
    source = make_source(
        name,
        module,
        call,
        _specs(example, dimensions or {}),
        declared,
        values=Values(real, example, names=sample_names),
        output_names=output_names,
        keep_training_mode=keep_training_mode,
        shared=shared,
    )
    taken = {name: range_ for name, range_ in found.items() if declared[name] is range_}
    fixed = [_ALL_FIXED] if isinstance(example_inputs, Captured) and not dimensions else []
    return replace(source, notes=(*source.notes, *fixed, *_steps_taken(taken)))


_ALL_FIXED: Final = (
    "all captured calls have the same sizes, so every size is fixed: call the module with others "
    "too, where they may vary"
)


def _steps_taken(found: Ranges) -> Iterator[str]:
    """Sentences for the user on steps that nobody declared."""
    for name, range_ in found.items():
        if (step := range_.step) > 1:
            yield (
                f"{name} is taken in steps of {step}, which divides its size in every call: if the "
                "module takes others, call it with one of them too, or declare the step, in Python "
                f"ranges={{{name!r}: Range(STEP, step=STEP)}}"
            )


def model_name(output: Path) -> str:
    """The name of a model: that of its bundle.

    Raises:
        UsageError: It is none that a manifest can hold, or ends as a file of a model does.
    """
    refuse_name_of_model(output)
    name = output.name.removesuffix(".edge")
    if not name or not name.isprintable():
        raise UsageError(
            f"the model would be called {name!r}, as its bundle, which cannot be printed",
            remedy="name the bundle otherwise",
        )
    return name


def _specs(example: Mapping[str, Array], dimensions: Dimensions) -> tuple[TensorSpec, ...]:
    for name, axes in dimensions.items():
        if not isinstance(axes, Mapping):
            raise UsageError(
                f"dimensions gives {name!r} a {type(axes).__name__}, expected a dict",
                remedy="write the axis and its name: {0: 'batch'}",
            )
        if name not in example or not all(axis in range(example[name].ndim) for axis in axes):
            raise UsageError(
                f"dimensions name {name!r} with axes {[*axes]}, which the example has not",
                remedy=f"the example inputs are {', '.join(example)}",
            )
        for dimension in axes.values():
            if not _is_name(dimension):
                raise UsageError(
                    f"dimensions calls an axis of {name!r} {dimension!r}, which is no name",
                    remedy="use a Python identifier, like 'batch', or a sum of such, like "
                    "'past+time'; leave a fixed axis out",
                )
    return tuple(
        TensorSpec(
            name,
            str(array.dtype),
            tuple(
                spelled(axes[axis]) if axis in axes else size
                for axis, size in enumerate(array.shape)
            ),
        )
        for name, array in example.items()
        for axes in [dimensions.get(name, {})]
    )


def _is_name(dimension: object) -> bool:
    """Whether torch.export takes it for a dimension, or for one that follows others."""
    if not isinstance(dimension, str):
        return False
    follows = sum_of(spelled(dimension))
    names = [dimension] if follows is None else follows.factors
    return all(name.isidentifier() and not keyword.iskeyword(name) for name in names)


def _check_inferred(dimensions: str) -> None:
    if dimensions != "infer":
        raise UsageError(
            f"dimensions is {dimensions!r}",
            remedy="write 'infer', or name the free axes: {'image': {0: 'batch'}}",
        )


def _labels(given: Array | torch.Tensor | Sequence[float]) -> Array:
    try:
        if isinstance(given, torch.Tensor):
            return checked_tensor("labels", given).numpy()
        return np.asarray(given)
    except ValueError as e:
        raise UsageError(
            f"labels are of no one shape: {e}", remedy="give as many for each row, in order"
        ) from e


def _check_ranges(ranges: Mapping[str, Range]) -> None:
    for name, range_ in ranges.items():
        if not isinstance(range_, Range):
            raise UsageError(
                f"the range of {name!r} is {range_!r}",
                remedy="write edgeport.runtimes.Range(min, max, step=1); max may be None",
            )


def _shapes_of(module: nn.Module, call: Call, keep_training_mode: bool) -> Run:
    flat = Flat(prepared(module, keep_training_mode=keep_training_mode)[0], call)

    def run(inputs: Mapping[str, Array]) -> list[tuple[int, ...]]:
        with contextlib.redirect_stdout(io.StringIO()):  # what forward prints is not news
            return [array.shape for array in run_module(flat, inputs)]

    return run
