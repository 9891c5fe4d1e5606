"""Turn figures into a verdict: what was measured is not touched, so it can be judged again."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from edgeport.runtimes.bundles.manifest import Kind

from .figures import Figures
from .thresholds import Precision, Reduced, Thresholds, floor_scale

Status = Literal["pass", "fail"]

FEW_ELEMENTS: Final = 64
"""An rms over fewer elements than this is itself too uncertain to divide by."""

MEDIAN_ELEMENTS: Final = 8
"""From so many elements on, the median over the samples is held at its nearest bar."""

_NOISE_PEAK: Final = 4
"""The largest of a few thousand errors, in units of their rms: a normal one is beyond it once in
16,000 times."""


_USUAL: Final = ("real", "random")
"""Kinds of samples; others were made, or sought, to be the worst."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on one output of one sample, with every figure behind it."""

    output: str
    sample: str
    status: Status
    reason: str
    figures: Figures
    kind: Kind = "real"


def median(values: Sequence[float]) -> float:
    """As ``np.median``, which loads numpy's masked arrays: 8 ms, and as much in each fork."""
    ordered = np.sort(values)  # NaN comes last
    middle = ordered[(len(ordered) - 1) // 2 : len(ordered) // 2 + 1]
    return math.nan if math.isnan(ordered[-1]) else float(middle.mean())


def pool_floors(figures: Sequence[Figures]) -> list[Figures]:
    """Raise the floors of one output's samples, where they were measured on few elements.

    Eager can be right by luck, and the rms of one or two elements is often far below what eager
    usually does: without this, a correct backend fails one in a hundred scalars. Such a floor
    is raised to the median of the floors of the samples given: a mean would follow one sample of
    a much larger scale, and hide faults in the others. The signal is pooled likewise.
    """
    measured = [f for f in figures if f.elements and not f.mismatch]
    if not measured:
        return list(figures)
    rms = median([f.floor_rms for f in measured])
    peak = median([f.floor_max for f in measured])
    signal = median([f.signal_rms for f in measured])
    return [
        replace(
            f,
            floor_rms=max(f.floor_rms, rms),
            floor_max=max(f.floor_max, peak),
            signal_rms=max(f.signal_rms, signal),
        )
        if 0 < f.elements < FEW_ELEMENTS
        else f
        for f in figures
    ]


def judge(
    output: str,
    sample: str,
    figures: Figures,
    thresholds: Thresholds,
    *,
    kind: Kind = "real",
    reduced: Precision | None = None,
) -> Verdict:
    """Turn figures into a verdict.

    Args:
        output: Its name.
        sample: Its name.
        figures: What was measured.
        thresholds: Where a verdict turns.
        kind: Of the sample: an edge case may be further off.
        reduced: The artefact's precision, where it is narrower than the module's.
    """
    problem = (
        _problem(output, figures, thresholds, kind)
        if reduced is None
        else _reduced_problem(output, figures, thresholds, kind, reduced)
    )
    status: Status = "pass" if problem is None else "fail"
    because = f"; judged from eager, because {figures.gap}" if figures.gap else ""
    reason = (problem or _praise(figures, reduced)) + because
    return Verdict(output, sample, status, reason, figures, kind)


def _praise(figures: Figures, reduced: Precision | None) -> str:
    if figures.rule == "exact":
        count = figures.error_max
        return f"{count:.0f} of {figures.elements} elements differ" if count else "equal"
    if reduced is not None:
        return f"signal-to-noise ratio is {figures.snr_db:.3g} dB"
    return f"error is {figures.ratio:.3g} times the floor"


def _problem(output: str, figures: Figures, thresholds: Thresholds, kind: Kind) -> str | None:
    if figures.mismatch:
        return figures.mismatch
    if figures.rule == "exact":
        return f"{figures.error_max:.0f} elements differ" if figures.error_max else None
    allowed = thresholds.ratio_of(output, edge=kind == "edge")
    if figures.ratio > allowed:
        return (
            f"error is {figures.ratio:.3g} times the floor, {allowed:g} allowed; "
            f"largest at {list(figures.worst_index)}"
        )
    return None


def _reduced_problem(
    output: str, figures: Figures, thresholds: Thresholds, kind: Kind, precision: Precision
) -> str | None:
    """The rule of a narrower precision: its own floor, a signal-to-noise ratio, decisions."""
    bar = thresholds.bar_of(precision)
    if figures.mismatch:
        return figures.mismatch
    if figures.rule == "exact":
        return _changed(figures, bar) if owes_integers(kind, precision) else None
    ratio = figures.ratio / floor_scale(precision, figures.dtype)
    allowed = thresholds.ratio_of(output, edge=kind == "edge")
    if ratio > allowed:
        return (
            f"error is {ratio:.3g} times the floor of {precision}, {allowed:g} allowed; "
            f"largest at {list(figures.worst_index)}"
        )
    return None if kind == "edge" else _too_noisy(figures, bar)


def owes_integers(kind: Kind, precision: Precision) -> bool:
    """Whether integers have a bar: not those of an edge case where floats, too, may be any there.

    int8 has neither a floor nor a signal to keep far beyond its ranges, and what is decided by such
    floats (how many scores are above 0) is as far off.
    """
    return kind != "edge" or math.isfinite(floor_scale(precision, "float32"))


def _changed(figures: Figures, bar: Reduced) -> str | None:
    most = max(1, math.floor(bar.max_flips * figures.elements))
    if figures.error_max <= most:
        return None
    return f"{figures.error_max:.0f} of {figures.elements} elements differ, {most} allowed"


def _too_noisy(figures: Figures, bar: Reduced) -> str | None:
    """Two logits with the noise that is allowed cannot cross more than twice its peak."""
    if figures.snr_db < bar.min_snr_db:
        return (
            f"signal-to-noise ratio is {figures.snr_db:.3g} dB, at least {bar.min_snr_db:g} "
            f"expected; largest error at {list(figures.worst_index)}"
        )
    margin = 2 * _NOISE_PEAK * figures.signal_rms * 10 ** (-bar.min_snr_db / 20)
    if figures.flip_margin > margin:
        return (
            f"a decision flips across a margin of {figures.flip_margin:.3g}, noise crosses at "
            f"most {margin:.3g}"
        )
    return None


def median_bar(max_ratio: float, elements: int) -> float:
    """The largest median, over the samples of an output, of the rms error in units of its floor.

    A ratio of two rms errors scatters by about 1/sqrt(n) on n elements (an F distribution). Errors
    are alike from sample to sample, as the weights are, so that the elements of one sample count
    and not those of all: the more there are, the nearer to 1 a right engine is, and the smaller
    a fault can be told from it. docs/parity.md has the measurements.

    Args:
        max_ratio: The bar of one sample.
        elements: How many the smallest sample has.

    Examples:
        >>> [round(median_bar(8, elements), 2) for elements in (1, 2, 4, 8, 1000)]
        [8.0, 5.66, 4.0, 2.83, 2.83]
    """
    return max_ratio / math.sqrt(min(max(elements, 1), MEDIAN_ELEMENTS))


def judge_together(
    verdicts: Sequence[Verdict], thresholds: Thresholds, reduced: Precision | None = None
) -> list[Verdict]:
    """Judge each output over all its samples: a fault is there in most, bad luck in one.

    Where the median of the rms errors is above ``median_bar``, the sample with the largest fails.
    A median, because in a mean one sample counts whose rows differ much in scale, or cancel. Edge
    cases, and samples that were sought for their ratio, don't count. Where errors are counted from
    eager (no oracle, or float64, which is its own) nothing is known of their usual size, and
    nothing changes.

    Args:
        verdicts: Of one backend, in the order in which they are returned.
        thresholds: Where a verdict turns.
        reduced: The artefact's precision, where it is narrower than the module's. Then it is
            integers that are judged: one of each sample may differ, and of samples of one each
            that is all.
    """
    if reduced is not None:
        return _changed_together(verdicts, thresholds.bar_of(reduced))
    found = list(verdicts)
    for output in dict.fromkeys(verdict.output for verdict in verdicts):
        ratios = {
            place: verdict.figures.rms_ratio
            for place, verdict in enumerate(verdicts)
            if verdict.output == output and counts_together(verdict)
        }
        if ratios:
            elements = min(verdicts[place].figures.elements for place in ratios)
            allowed = median_bar(thresholds.ratio_of(output), elements)
            middle = median([*ratios.values()])
            if middle > allowed:
                place = max(ratios, key=lambda place: ratios[place])
                found[place] = _failed(found[place], middle, allowed, len(ratios))
    return found


def _changed_together(verdicts: Sequence[Verdict], bar: Reduced) -> list[Verdict]:
    found = list(verdicts)
    for output in dict.fromkeys(verdict.output for verdict in verdicts):
        places = [
            place
            for place, verdict in enumerate(verdicts)
            if verdict.output == output
            and verdict.kind in _USUAL
            and verdict.figures.rule == "exact"
            and not verdict.figures.mismatch
        ]
        counts = [verdicts[place].figures for place in places]
        differ = sum(figures.error_max for figures in counts)
        total = sum(figures.elements for figures in counts)
        most = max(1, math.floor(bar.max_flips * total))
        if differ > most and all(found[place].status == "pass" for place in places):
            place = max(places, key=lambda place: verdicts[place].figures.error_max)
            reason = f"{differ:.0f} of {total} elements differ over all samples, {most} allowed"
            found[place] = replace(found[place], status="fail", reason=reason)
    return found


def counts_together(verdict: Verdict) -> bool:
    """Whether ``judge_together`` takes a verdict into its median."""
    figures = verdict.figures
    measured = figures.rule == "oracle" and figures.dtype != "float64"
    return verdict.kind in _USUAL and measured and figures.elements > 0 and not figures.mismatch


def _failed(verdict: Verdict, median: float, allowed: float, samples: int) -> Verdict:
    if verdict.status == "fail":
        return verdict
    reason = (
        f"rms error is {median:.3g} times the floor in the median over {samples} samples, "
        f"{allowed:.3g} allowed"
    )
    return replace(verdict, status="fail", reason=reason)


def worst(verdicts: Sequence[Verdict]) -> Mapping[str, Verdict]:
    """The worst verdict of each output: a failure before a pass, then the larger ratio."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        held = found.get(verdict.output)
        if held is None or _badness(verdict) > _badness(held):
            found[verdict.output] = verdict
    return found


def _badness(verdict: Verdict) -> tuple[bool, float]:
    return verdict.status == "fail", verdict.figures.ratio
