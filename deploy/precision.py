"""The narrower precision that was asked for: made from the proved ONNX file, and proved too."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from edgeport.deploy.compilers.narrower.narrowing import (
    Wide,
    in_float16_but,
    is_measured,
    is_symmetric,
    routes,
    to_build_from,
)
from edgeport.deploy.compilers.narrower.while_loops import while_loops
from edgeport.deploy.compilers.narrower.wide_nodes import nodes_of_bodies, products_of_transposed
from edgeport.deploy.compilers.routes import Route
from edgeport.deploy.compilers.stored import EngineSource
from edgeport.deploy.compilers.targets import OnnxRequest
from edgeport.deploy.diagnosis.nodes import origins_in, placed
from edgeport.deploy.diagnosis.remedies import Family
from edgeport.deploy.proof.float16_reach import nodes_beyond_float16
from edgeport.deploy.proof.trial import emulated_name
from edgeport.deploy.proof.variation import Variation
from edgeport.deploy.sources.source import Source
from edgeport.deploy.tensorrt.request import ENGINES
from edgeport.runtimes import EngineError
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Precision
from edgeport.runtimes.parity.verdict import Verdict

from .attempts import Attempt, Prove, bring_back, first_proved, keep
from .blunt import far_off, least_blunt, left_of, put_aside, variation_of
from .calibration import Calibration, calibration_of
from .emulation import attempt_and_emulate
from .failure import explain
from .further import PATIENCE_TIMES
from .isolation import Killed, Limits, run_isolated
from .request import Request

_PATIENCE_S: Final = 60.0
"""With what is made narrower and loops until its values are near enough, beside some times what it
took before: rounded ones may never be."""

_MOST: Final = float(np.finfo(np.float16).max)
_LEAST: Final = float(np.finfo(np.float16).smallest_subnormal)

_WIDER: Final[Mapping[str, str]] = {
    "float16": "leave --precision out",
    "bfloat16": "ask for --precision float16, or leave --precision out",
    "int8": "ask for --precision float16, or leave --precision out",
}
_WRONG: Final[Mapping[str, str]] = {
    "float16": "rewrite what takes the difference of near values, or leaves 6e-8 to 65504: float16 "
    "has 11 bits",
    "bfloat16": "train the module in bfloat16, whose values have 8 bits of mantissa",
    "int8": "give more --samples or --calibration, or train the module with rounded values",
}
_DECIDED: Final = (
    "return the scores in place of what they decide, such as an argmax or a rounded number, and "
    "decide behind the artefact: near ones change places, and scores are judged by their noise"
)
_WITHOUT_SAMPLES: Final = (
    "give --samples of real inputs, or --calibration: ranges were measured on drawn ones"
)


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What came of the precision that was asked for.

    Attributes:
        won: The artefacts of the bundle.
        for_engines: What engines are built from, in that precision; ``None`` without ONNX.
        notes: On what ranges of values were measured on, and what was proved; sentences.
        left: On what of its outputs is left of what changes from input to input, and on edge cases;
            sentences.
        emulated: What does on the CPU as an engine on a GPU does, and the folder that it is in.
    """

    won: list[Attempt]
    for_engines: EngineSource | None
    notes: list[str]
    left: Sequence[str] = ()
    emulated: tuple[Path, Artefact] | None = None


def narrowed(
    source: Source,
    golden: Sequence[Golden],
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
        golden: What it answers.
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
    loops = while_loops(onnx.load(wide.path, load_external_data=False).graph)
    patience_s = _PATIENCE_S + PATIENCE_TIMES * (first.compile_s + first.proof_s)
    time_s = min(request.limits.time_s, round(patience_s)) if loops else request.limits.time_s
    limits = replace(request.limits, time_s=time_s)

    seen: dict[str, Attempt | None] = {}
    varied: dict[str, Variation] = {}
    blunt: list[Attempt] = []

    def tries(route: Route) -> Attempt:
        made, seen[route.name] = attempt_and_emulate(source, route, folder, prove, limits)
        if made.outcome == "proved":
            found = variation_of(made, seen[route.name], golden, folder, request)
            varied[route.name] = found
            if found.lost or found.parts:
                return put_aside(made, found, folder, _WIDER[precision], blunt)
        return _with_loops(_with_remedy(made, source, precision), loops, wide, source, precision)

    ways = (  # symmetric ranges are no finer
        way
        for way in routes(precision, wide)
        if not is_symmetric(way.name) or all(is_symmetric(each.route) for each in blunt)
    )
    made = first_proved("onnx", ways, tries, begin, ended)
    if precision == "float16" and made[-1].outcome != "proved":
        made += first_proved("onnx", _in_reach(wide, golden, made, limits), tries, begin, ended)
    if made[-1].outcome != "proved":
        made += least_blunt(blunt, varied, source, folder, ended)
    if made[-1].outcome != "proved":
        raise explain(source, precision, [], made, list, None)
    proved = made[-1]
    if proved.compiled is None:
        raise ValueError("proved, and nothing was compiled")
    engines = to_build_from(proved.compiled, wide, folder)
    if precision == "bfloat16":
        place = keep(proved.compiled, folder, proved.route)
        bring_back(first.compiled, folder, kept)
        told = [_rounded(proved, precision)]
        left = left_of(varied[proved.route], precision, request.thresholds)
        return Narrowed([*won], engines, told, left, (place, proved.compiled.artefact))
    narrow = [proved if found is first else found for found in won]
    told, emulated = _emulation(seen[proved.route])
    notes = [*_notes(calibration, request, made), *told]
    left = left_of(varied[proved.route], precision, request.thresholds)
    if precision == "int8":
        left += far_off(proved, request.thresholds)
    return Narrowed(narrow, engines, notes, left, emulated)


def _in_reach(
    wide: Wide, golden: Sequence[Golden], failed: Sequence[Attempt], limits: Limits
) -> tuple[Route, ...]:
    """Ways to float16 with what leaves it in float32, if a file was wrong and anything does.

    What values have within bodies is not known: all of their nodes are the last to stay.
    """
    if all(attempt.outcome != "wrong" for attempt in failed):
        return ()
    inputs = [sample.inputs for sample in golden]
    try:
        beyond = run_isolated(partial(nodes_beyond_float16, wide.path, inputs), limits)
    except EngineError:  # it does not run with so much asked of it
        return ()
    if isinstance(beyond, Killed):
        return ()
    model = wide.without_weights()
    crashing = products_of_transposed(model) if any(a.outcome == "ended" for a in failed) else []
    found = [in_float16_but("float16 in reach", wide, beyond + crashing)] if beyond else []
    if inner := nodes_of_bodies(model):
        stay = beyond + crashing + inner
        found.append(in_float16_but("float16 around bodies", wide, stay))
    return tuple(found)


def _emulation(seen: Attempt | None) -> tuple[list[str], tuple[Path, Artefact] | None]:
    """Sentences on what rounds each value, and where it is."""
    if seen is None:
        return [], None
    if seen.outcome != "proved" or seen.kept is None or seen.compiled is None:
        return [_not_rounded(seen)], None
    artefact = seen.compiled.artefact
    return [_rounded(seen, artefact.precision)], (seen.kept, artefact)


def _rounded(proved: Attempt, precision: str) -> str:
    signals = [
        verdict.figures.snr_db
        for report in proved.reports
        for verdict in report.verdicts
        if verdict.kind != "edge" and verdict.figures.rule != "exact"
    ]
    least = f"the signal is at least {min(signals):.3g} dB above the noise" if signals else ""
    return (
        f"{emulated_name(precision)}: with each value rounded on the CPU, in place of the engine, "
        f"{least or 'nothing is lost'}"
    )


def _not_rounded(failed: Attempt) -> str:
    why = failed.diagnosis.problem if failed.diagnosis else failed.outcome
    return (
        "float16 was proved on ONNX Runtime's CPU alone, which computes much of it in float32: "
        f"with each value rounded it could not be run: {why}"
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
    told = f"edge cases left out, as float16 cannot hold their squares: {', '.join(beyond)}"
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


def _with_loops(
    ended: Attempt, loops: Sequence[str], wide: Wide, source: Source, precision: Precision
) -> Attempt:
    """Name the loops that may have no end, where it took too long."""
    found = ended.diagnosis
    if found is None or found.family != Family.TIMEOUT or not loops:
        return ended
    told = replace(
        found,
        problem=f"{found.problem}; a loop that waits for its values may have no end in "
        f"{precision}: {', '.join(loops)}",
        remedy=f"end the loop after a number of steps too, or {found.remedy}",
    )
    origins = origins_in(wide.compiled.debug_map)
    return replace(ended, diagnosis=placed(told, loops[0], origins, source.module))


def _with_remedy(failed: Attempt, source: Source, precision: Precision) -> Attempt:
    if failed.diagnosis is None:
        return failed
    remedy = _WIDER[precision]
    wrong = [verdict for report in failed.reports for verdict in report.failures]
    if wrong:  # not one that an engine refused
        lacking = is_measured(failed.route) and not source.real
        mends = _WITHOUT_SAMPLES if lacking else _WRONG[precision]
        remedy = f"{_DECIDED if all(map(_is_decided, wrong)) else mends}, or {remedy}"
    return replace(failed, diagnosis=replace(failed.diagnosis, remedy=remedy))


def _is_decided(verdict: Verdict) -> bool:
    """Whether integers or bools changed, beside floats that are near enough."""
    return verdict.figures.rule == "exact" and not verdict.figures.mismatch
