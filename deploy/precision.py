"""The narrower precision that was asked for: made from the proved ONNX file, and proved too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from edgeport.deploy.compilers.narrowing import Wide, is_measured, routes, to_build_from
from edgeport.deploy.compilers.routes import Route
from edgeport.deploy.compilers.stored import EngineSource
from edgeport.deploy.compilers.targets import OnnxRequest
from edgeport.deploy.sources.source import Source
from edgeport.deploy.tensorrt.request import ENGINES
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Precision

from .attempts import Attempt, Prove, attempt, bring_back, first_proved, keep
from .calibration import Calibration, calibration_of
from .failure import explain
from .request import Request

_MOST: Final = float(np.finfo(np.float16).max)
_LEAST: Final = float(np.finfo(np.float16).smallest_subnormal)

_WIDER: Final[Mapping[str, str]] = {
    "float16": "leave --precision out",
    "bfloat16": "ask for --precision float16, or leave --precision out",
    "int8": "ask for --precision float16, or leave --precision out",
}
_WRONG: Final[Mapping[str, str]] = {
    "float16": "scale what leaves the values that float16 holds, 6e-8 to 65504",
    "bfloat16": "train the module in bfloat16, whose values have 8 bits of mantissa",
    "int8": "give more --samples or --calibration, or train the module with rounded values",
}
_WITHOUT_SAMPLES: Final = (
    "give --samples of real inputs, or --calibration: ranges were measured on drawn ones"
)


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What came of a narrower precision.

    Attributes:
        won: The artefacts of the bundle.
        for_engines: What engines are built from, in that precision.
        notes: On what ranges of values were measured on, and what was proved; sentences.
    """

    won: list[Attempt]
    for_engines: EngineSource
    notes: list[str]


def narrowed(
    source: Source,
    won: Sequence[Attempt],
    folder: Path,
    request: Request,
    asked: OnnxRequest,
    prove: Prove,
    begin: Callable[[str], None],
    ended: Callable[[Attempt], None],
) -> Narrowed:
    """Put a file in the precision that was asked for in the place of the ONNX file.

    bfloat16 runs on no CPU: there the ONNX file stays, and engines are in bfloat16 alone.

    Args:
        source: What is compiled.
        won: Proved artefacts, of which one is ONNX.
        folder: Where they are.
        request: What was asked.
        asked: What of it is for ONNX.
        prove: Opens the artefact and compares.
        begin: Called with the name of each step.
        ended: Called with what came of it.

    Raises:
        EdgeportError: The precision is not to be had, or not near enough to the module.
    """
    precision = request.precision
    first = next(found for found in won if found.format == "onnx")
    if precision is None or first.compiled is None:
        raise ValueError("nothing to make narrower")
    kept = keep(first.compiled, folder, first.route)
    calibration = Calibration((), "")
    if precision == "int8":
        calibration = calibration_of(source, request.calibration)
    wide = Wide(
        kept / first.compiled.artefact.stored.file,
        first.compiled,
        asked,
        calibration.inputs,
        calibration.origin,
        for_engines=any(name in ENGINES for name in request.formats)
        or (asked.target or "").startswith(ENGINES),
    )

    def tries(route: Route) -> Attempt:
        made = attempt(source, "onnx", route, folder, prove, request.limits)
        return _with_remedy(made, source, precision)

    made = first_proved("onnx", routes(precision, wide), tries, begin, ended)
    if made[-1].outcome != "proved":
        raise explain(source, precision, [], made, list, None)
    proved = made[-1]
    if proved.compiled is None:
        raise ValueError("proved, and nothing was compiled")
    engines = to_build_from(proved.compiled, wide, folder)
    if precision == "bfloat16":
        keep(proved.compiled, folder, proved.route)
        bring_back(first.compiled, folder, kept)
        return Narrowed([*won], engines, [_rounded(proved)])
    notes = _notes(calibration, request, made)
    return Narrowed([proved if found is first else found for found in won], engines, notes)


def _rounded(proved: Attempt) -> str:
    signals = [
        verdict.figures.snr_db
        for report in proved.reports
        for verdict in report.verdicts
        if verdict.kind != "edge" and verdict.figures.snr_db is not None
    ]
    if not signals:
        return "with each value rounded to bfloat16, on the CPU, nothing is lost"
    return (
        "with each value rounded to bfloat16, on the CPU, the signal is at least "
        f"{min(signals):.3g} dB above the noise"
    )


def _notes(calibration: Calibration, request: Request, made: Sequence[Attempt]) -> list[str]:
    if is_measured(made[-1].route):
        return [*calibration.doubts]
    wrong = any(is_measured(found.route) and found.outcome == "wrong" for found in made)
    why = "a file with its ranges is wrong, and this one" if wrong else "this file"
    unused = f"calibration was not used: {why} measures its ranges in each call"
    told = [unused] if request.calibration else []
    return [*told, *calibration.doubts] if wrong else told


def held_by(
    precision: Precision | None, golden: tuple[Golden, ...]
) -> tuple[tuple[Golden, ...], list[str]]:
    """The samples without edge cases that a precision cannot hold, and a sentence on those."""
    if precision != "float16":
        return golden, []
    beyond = [sample.name for sample in golden if sample.kind == "edge" and _leaves(sample)]
    told = f"float16 cannot hold squares of the edge cases {', '.join(beyond)}: left out"
    kept = tuple(sample for sample in golden if sample.name not in beyond)
    return kept, [told] if beyond else []


def _leaves(sample: Golden) -> bool:
    """Whether float16 makes 0 or Inf of the square of an input, or Inf of an answer."""
    squares = [np.square(a, dtype=np.float64) for a in sample.inputs.values() if _is_float(a)]
    answers = [np.abs(array) for array in sample.eager.values() if _is_float(array)]
    vanish = any(bool(np.any((array > 0) & (array < _LEAST))) for array in squares)
    return vanish or any(bool(np.any(array > _MOST)) for array in (*squares, *answers))


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f"


def _with_remedy(failed: Attempt, source: Source, precision: Precision) -> Attempt:
    if failed.diagnosis is None:
        return failed
    remedy = _WIDER[precision]
    if any(report.failures for report in failed.reports):  # not one that an engine refused
        lacking = precision == "int8" and not source.real
        remedy = f"{_WITHOUT_SAMPLES if lacking else _WRONG[precision]}, or {remedy}"
    return replace(failed, diagnosis=replace(failed.diagnosis, remedy=remedy))
