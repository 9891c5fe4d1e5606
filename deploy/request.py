"""What is asked of an export, and whether it can be done, before anything is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from edgeport.deploy.compilers import aotinductor
from edgeport.deploy.compilers.narrower.narrowing import NARROW
from edgeport.deploy.compilers.onnx_files.string_input import FORMAT
from edgeport.deploy.compilers.targets import OnnxRequest, Target, check_dtypes, negotiate
from edgeport.deploy.sources.source import Source, check_given, numbered
from edgeport.deploy.tensorrt.request import ENGINES, target_of
from edgeport.runtimes import BackendMissingError, UsageError, files
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Precision, Thresholds
from edgeport.runtimes.session import BACKENDS, FORMATS, probe
from edgeport.runtimes.tensorrt.library import Library
from edgeport.runtimes.tensorrt.order import EngineOptions

from .calibration import check_finite
from .isolation import Limits

DEFAULT_FORMATS: Final = ("onnx", "torchscript", "pt2")
FORMATS_MADE: Final = (*DEFAULT_FORMATS, FORMAT, aotinductor.FORMAT, *ENGINES)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of an export, beside its source.

    Attributes:
        formats: Some of ``onnx``, ``torchscript``, ``pt2``, ``aotinductor``, ``onnx-strings``,
            ``tensorrt``, ``tensorrt-rtx``. The last two are built from ``onnx``, which comes with
            them.
        opset: Of the ONNX file; ``None`` for what suits the target.
        target: Where the ONNX file is to run; ``None`` for engines of today.
        thresholds: Where a verdict turns.
        limits: What one compiler may use.
        search_s: Wall time to look for the inputs on which each backend is worst.
        labels: Of the real samples, row by row: classes, or values like the first output.
        repro: A folder that does not exist yet: if an artefact is wrong, the operator that is, as
            a small case.
        engine: How engines are built.
        precision: What the ONNX file and engines of it compute in, ``float16`` or ``int8``, or
            engines alone, ``bfloat16``; ``None`` for what the module computes in.
        calibration: Inputs to measure ranges of values on for int8, each complete; none for some of
            the samples.
        calibration_names: What to call each in an error; numbers where nothing is said.
    """

    formats: tuple[str, ...] = DEFAULT_FORMATS
    opset: int | None = None
    target: Target | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    limits: Limits = field(default_factory=Limits)
    search_s: float = 0.0
    labels: Array | None = None
    repro: Path | None = None
    engine: EngineOptions = field(default_factory=EngineOptions)
    precision: Precision | None = None
    calibration: Sequence[Mapping[str, Array]] = ()
    calibration_names: Sequence[str] = ()


def default_formats(precision: Precision | None) -> tuple[str, ...]:
    """What is made if nothing is named."""
    return DEFAULT_FORMATS if precision is None else ("onnx",)


def compiled_formats(request: Request) -> tuple[str, ...]:
    """What is compiled from the module; an engine is built from its ONNX.

    Raises:
        UsageError: A format is unknown, or named twice.
    """
    unknown = [name for name in request.formats if name not in FORMATS_MADE]
    if unknown or not request.formats:
        raise UsageError(
            f"there is no format {unknown[0]!r}" if unknown else "no format was named",
            remedy=f"choose among {', '.join(FORMATS_MADE)}",
        )
    if len(set(request.formats)) != len(request.formats):
        raise UsageError(
            f"a format was named twice: {', '.join(request.formats)}", remedy="name each once"
        )
    compiled = tuple(name for name in request.formats if name not in ENGINES)
    if len(compiled) == len(request.formats) or "onnx" in compiled:
        return compiled
    return ("onnx", *compiled)


def onnx_request(
    source: Source, request: Request, formats: Sequence[str], libraries: Iterable[Library]
) -> OnnxRequest:
    """What is asked of the ONNX file, so that all that is to read it can.

    Args:
        source: What is compiled.
        request: What is asked.
        formats: What is compiled from the module.
        libraries: That build engines from it.

    Raises:
        UsageError: What is asked does not fit the source, or does not go together.
        BackendMissingError: A format cannot be compiled or proved here.
    """
    request.thresholds.check_outputs([spec.name for spec in source.signature.outputs])
    if request.calibration and request.precision != "int8":
        raise UsageError(
            "calibration was given, and nothing is made in int8",
            remedy="leave --calibration out, or ask for --precision int8",
        )
    if request.precision is not None:
        _check_narrower(source, request)
    for name in formats:
        _check_provable(name)
    if aotinductor.FORMAT in formats:
        aotinductor.require_compiler()
    targets = [request.target] if request.target is not None else []
    targets += map(target_of, libraries)
    for target in targets:
        check_dtypes(target, source.signature)
    if request.repro is not None:
        files.refuse_existing(request.repro)
    narrowest = min(targets, key=lambda target: target.newest_opset, default=None)
    asked = negotiate(request.opset, narrowest)
    return asked if request.target is None else replace(asked, target=request.target.name)


def _check_narrower(source: Source, request: Request) -> None:
    asked = request.precision
    if asked not in NARROW:
        raise UsageError(
            f"there is no --precision {asked}",
            remedy=f"ask for {', '.join(NARROW)}, or export a module of that dtype",
        )
    if asked == "bfloat16":
        _check_bfloat16(request)
    others = [name for name in request.formats if name not in ("onnx", *ENGINES)]
    if others:
        raise UsageError(
            f"{asked} is made in ONNX, and --format asks for {', '.join(others)} too",
            remedy=f"leave {', '.join(others)} out of --format: a bundle without --precision "
            "may hold it",
        )
    dtypes = _dtypes_of_floats(source)
    if "float32" not in dtypes or "bfloat16" in dtypes or source.signature.precision == asked:
        computed = f"computes in {' and '.join(dtypes)}" if dtypes else "has integers alone"
        raise UsageError(
            f"--precision {asked} is for modules in float32, and this one {computed}",
            remedy="leave --precision out, or give the module in float32",
        )
    names = numbered("calibration", request.calibration, request.calibration_names)
    check_given(source.signature, request.calibration, names)
    check_finite(request.calibration, names)
    if request.calibration and not source.real:
        raise UsageError(
            "calibration was given without samples, and what is drawn to prove with is unlike it",
            remedy="give it as --samples: ranges are measured on half of them",
        )


def _dtypes_of_floats(source: Source) -> list[str]:
    """Of weights, inputs and outputs."""
    weights = (*source.module.parameters(), *source.module.buffers())
    dtypes = {*source.flat.call.dtypes, *(tensor.dtype for tensor in weights)}
    floats = {str(dtype).removeprefix("torch.") for dtype in dtypes if dtype.is_floating_point}
    return sorted(floats | ({source.precision} - {"integer"}))


def _check_bfloat16(request: Request) -> None:
    if not set(ENGINES) & set(request.formats):
        raise UsageError(
            "bfloat16 is for engines of TensorRT, and --format asks for none: no engine on a CPU "
            "computes in it",
            remedy=f"add one to --format: {' or '.join(ENGINES)}; or ask for --precision float16",
        )
    older = [each for each in request.engine.compute_capabilities if float(each) < 8]
    if older:
        raise UsageError(
            f"GPUs of compute capability {', '.join(older)} have no bfloat16: it came with 8.0",
            remedy="leave it out of --compute-capability, or ask for --precision float16",
        )


def _check_provable(format_: str) -> None:
    for name, backend in BACKENDS.items():
        if not backend.runs_on("cpu"):
            continue
        if backend.format == format_ and not (available := probe(name)).usable:
            raise BackendMissingError(
                f"model{FORMATS[format_]} cannot be proved here: {available.reason}",
                remedy=f"{available.remedy}; or leave the format out with --format",
            )
