"""What a benchmark found, in a sentence or a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from edgeport.commands.bench_plots import by_first_answer, first_answer_ns
from edgeport.commands.quantities import duration, duration_within, ends, ratio_within, rounded
from edgeport.runtimes.bench import Comparison, Latency, Peak, Result

_MOST_VERDICTS: Final = 3


def lead(result: Result) -> str:
    """What the benchmark found, in a sentence or a few."""
    if result.comparisons:
        told = [_verdict(each) for each in result.comparisons[:_MOST_VERDICTS]]
        more = len(result.comparisons) - len(told)
        return " ".join(told) + (f" {more} more comparisons are below." if more else "")
    if any(variant.peaks for variant in result.variants):
        return _peak_lead(result)
    if any(variant.cold_starts for variant in result.variants):
        return _cold_lead(result)
    return _latency_lead(result)


def _verdict(comparison: Comparison) -> str:
    ratio, bracket, interval = ratio_within(comparison.ratio).partition(" (")
    return f"{comparison}: {ratio} times{bracket}{interval}."


def _latency_lead(result: Result) -> str:
    first = result.variants[0]
    same = [v for v in result.variants if (v.rows, v.shapes) == (first.rows, first.shapes)]
    users = [variant for variant in same if not variant.engine_only] or same
    best = users[0]
    middle = next((p for p in best.percentiles if p.percent == 50), None)
    if middle is None:
        return f"{best.label} was timed; no median was asked for."
    if middle.latency_ns is None:
        return (
            f"No median can be given: {best.label} needs {middle.missing_calls:,} more calls. "
            "Measure longer."
        )
    text = f"{best.label} answers in {duration_within(middle.latency_ns)}{_beside(best, users[1:])}"
    if middle.latency_ns.low is None:
        text += ". Too few processes or rounds were measured for an interval"
    else:
        text += ". In brackets is the 95 % interval of the median"
    return f"{text}.{_most_rows(result)}"


def _beside(best: Latency, others: Sequence[Latency]) -> str:
    """How much quicker it is than the next and than the last, and from which it can't be told."""
    if best.times_fastest is None:
        return ""
    base, quicker, alike = best.times_fastest.value, [], []
    for other in others:
        if (ratio := other.times_fastest) is None:
            continue
        if (ratio.value if ratio.low is None else ratio.low) > base:
            quicker.append(f"{rounded(ratio.value / base)} times quicker than {other.label}")
        else:
            alike.append(other.label)
    text = "".join(f", {each}" for each in quicker[:1])
    text += "".join(f", {each}" for each in quicker[1:][-1:])
    return text + (f"; not shown to differ from it: {', '.join(alike)}" if alike else "")


def _most_rows(result: Result) -> str:
    rates = [(v.rows_per_s, v.label) for v in result.variants if v.rows_per_s is not None]
    if len({variant.rows for variant in result.variants}) < 2 or not rates:
        return ""
    rate, label = max(rates)
    return f" Most rows in a second: {rounded(rate)}, {label}."


def _peak_lead(result: Result) -> str:
    known = [(v.peak_hz.value, v.label, v.peak_hz) for v in result.variants if v.peak_hz]
    assert isinstance(result.mode, Peak)
    within = f"p{result.mode.percent:g} within {duration(result.mode.bound_ns)}"
    if not known:
        return f"No rate that was tried kept {within} in every process."
    _, label, rate = max(known, key=lambda each: each[0])
    return f"{label} takes {rounded(rate.value)} requests/s{ends(rate)} with {within}."


def _cold_lead(result: Result) -> str:
    first, *others = by_first_answer(result)
    first_ns = first_answer_ns(first)
    text = f"{first.label} gives its first answer {duration(first_ns)} after its process starts"
    if others:
        times = rounded(first_answer_ns(others[-1]) / first_ns)
        text += f"; {others[-1].label} takes {times} times as long"
    return f"{text}. Medians of {result.processes} starts."
