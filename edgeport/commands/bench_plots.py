"""What a benchmark found, drawn: every call, every round, every ratio."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeport.commands import charts
from edgeport.commands.charts import STYLES, Axis, Line, Moment
from edgeport.commands.html_page import Html, tag
from edgeport.commands.quantities import duration, ends, ratio_within, rounded, unit_of
from edgeport.commands.row_charts import Ratio, Stack, forest, ratio_axis, stacks
from edgeport.runtimes.bench import Closed, Latency, Peak, Result
from edgeport.runtimes.bench.disturbance import CLEAN_SHARE
from edgeport.runtimes.bench.statistics import Interval

_Any = TypeVar("_Any")

_POINTS: Final = 120
"""Of a curve: about one for every third pixel of a screen."""

_DOTS: Final = 120
"""Of a strip: more are no more to see, and a page of many variants would be large."""

_LEVELS: Final = ((2.0, "p50"), (10.0, "p90"), (100.0, "p99"), (1e3, "p99.9"),
                  (1e4, "p99.99"), (1e5, "p99.999"))  # fmt: skip

_VERDICTS: Final = {
    "faster": "third", "slower": "sixth", "equivalent": "main", "inconclusive": "soft",
}  # fmt: skip

_PHASES: Final = (
    ("python, numpy, edgeport", "soft"), ("import of the engine", "second"), ("open", "fifth"),
    ("first call", "main"),
)  # fmt: skip


def distributions(result: Result) -> list[Html]:
    """Which share of the calls took longer than what: a chart for every eight variants."""
    timed = [variant for variant in result.variants if variant.calls]
    found = []
    for rows, group in _by_rows(timed):
        unit_ns, unit = unit_of(min(float(np.median(v.rounds_ns)) for v in group))
        curves = [tail_curve(v.rounds_ns, unit_ns) for v in group]
        across = Axis.around([end for xs, _ in curves for end in (xs[0], xs[-1])], log=True)
        most = max(ys[-1] for _, ys in curves)
        up = Axis(0.93, max(most, 2.0) * 1.15, log=True, names=_LEVELS)
        title = "Latency of all calls" + _at(rows, result)
        for some in _eights(list(zip(group, curves, strict=True))):
            drawn = [
                Line(_without_batch(variant), xs, ys, style)
                for (variant, (xs, ys)), style in zip(some, STYLES, strict=False)
            ]
            found.append(
                charts.lines(title, drawn, x=f"latency, {unit}", y="share of calls",
                             across=across, up=up)
            )  # fmt: skip
    return found


def tail_curve(rounds_ns: NDArray[np.int64], unit_ns: float) -> tuple[list[float], list[float]]:
    """Latencies, and how many calls there are for each that took at least as long.

    Of n calls in order, that is n / (n - i) for the i-th from 0: on a logarithmic scale every
    nine of a percentile has the same room.

    Args:
        rounds_ns: Any shape.
        unit_ns: Of the latencies that are returned.

    Returns:
        Latencies and counts for at most 120 calls, the fastest and the slowest among them.
    """
    ordered = np.sort(rounds_ns, axis=None)
    n = len(ordered)
    wanted = n - n / np.geomspace(1, n, _POINTS)  # even on the scale, the ends among them
    ranks = np.unique(np.clip(np.round(wanted), 0, n - 1).astype(np.int64))
    return (ordered[ranks] / unit_ns).tolist(), (n / (n - ranks)).tolist()


def rounds(result: Result) -> list[Html]:
    """The medians of rounds in the order in which they were measured, by process."""
    waits = not isinstance(result.mode, Closed)
    return [_strip(variant, waits) for variant in result.variants if variant.calls]


def _strip(variant: Latency, waits: bool) -> Html:
    processes, count, _ = variant.rounds_ns.shape
    middle = float(np.median(variant.rounds_ns))
    unit_ns, unit = unit_of(middle)
    waits = waits or variant.engine.threads > 1
    lost = [[max(d.lost_share(waits=waits), 0) for d in each] for each in variant.disturbances]
    each_dot = -(-processes * count // _DOTS)
    groups = [
        [
            _moment(process, slice(start, min(start + each_dot, count)), variant, lost, unit_ns)
            for start in range(0, count, each_dot)
        ]
        for process in range(processes)
    ]
    values = [moment.value for group in groups for moment in group]
    return charts.strip(
        variant.label,
        groups,
        x="process",
        y=unit,
        level=middle / unit_ns,
        log=max(values) > 3 * min(values),
    )


def _moment(
    process: int,
    some: slice,
    variant: Latency,
    lost: Sequence[Sequence[float]],
    unit_ns: float,
) -> Moment:
    """Some rounds beside one another."""
    median_ns = float(np.median(variant.rounds_ns[process, some]))
    share = float(np.mean(lost[process][some]))
    first, last = some.start + 1, some.stop
    which = f"round {first}" if first == last else f"rounds {first} to {last}"
    return Moment(
        median_ns / unit_ns,
        f"process {process + 1}, {which}: {duration(median_ns)}, "
        f"{share:.1%} of the time taken by others",
        odd=share > CLEAN_SHARE,
    )


def batches(result: Result) -> list[Html]:
    """Throughput and latency against the batch, if it was varied."""
    sizes = sorted({variant.rows for variant in result.variants})
    known = [(v, v.median_ns) for v in result.variants if v.median_ns is not None]
    if len(sizes) < 2 or not known:
        return []
    unit_ns, unit = unit_of(min(ns for _, ns in known))
    some = sizes[:: -(-len(sizes) // 8)]
    across = Axis(sizes[0] / 1.1, sizes[-1] * 1.1, True, tuple((float(s), f"{s}") for s in some))
    settings: dict[str, list[Latency]] = {}
    for variant, _ in known:
        settings.setdefault(_without_batch(variant), []).append(variant)
    found = []
    for group in _eights(list(settings.items())):
        named = [(*each, style) for each, style in zip(group, STYLES, strict=False)]
        rates = [_rates(*each) for each in named if all(v.rows_per_s for v in each[1])]
        latencies = [_latencies(*each, unit_ns) for each in named]
        if rates:
            found.append(
                charts.lines("Throughput against batch", rates, x="batch", y="rows/s", log=True,
                             across=across)
            )  # fmt: skip
        found.append(
            charts.lines("Median latency of a call against batch", latencies, x="batch",
                         y=f"p50, {unit}", log=True, across=across)
        )  # fmt: skip
    return found


def _without_batch(variant: Latency) -> str:
    before, batch, after = variant.label.rpartition(f", batch {variant.rows}")
    return before + after if batch else variant.label


def _rates(name: str, group: Sequence[Latency], style: str) -> Line:
    xs, ys = [float(v.rows) for v in group], [v.rows_per_s or 0.0 for v in group]
    return Line(name, xs, ys, style, dotted=True)


def _latencies(name: str, group: Sequence[Latency], style: str, unit_ns: float) -> Line:
    ys = [(v.median_ns or 0.0) / unit_ns for v in group]
    middles = [next((p.latency_ns for p in v.percentiles if p.percent == 50), None) for v in group]
    spans = [
        None
        if middle is None or middle.low is None or middle.high is None
        else (middle.low / unit_ns, middle.high / unit_ns)
        for middle in middles
    ]
    return Line(name, [float(v.rows) for v in group], ys, style, dotted=True, spans=spans)


def ratios(result: Result) -> list[Html]:
    """How many times longer every variant takes than the fastest of its workload."""
    found = []
    for rows, group in _by_rows(result.variants):
        known = [(v.label, v.times_fastest) for v in group if v.times_fastest is not None]
        if any(ratio.value != 1 for _, ratio in known):
            drawn = [Ratio(n, r.value, r.low, r.high, ratio_within(r)) for n, r in known]
            found.append(("Times the fastest of its workload" + _at(rows, result), drawn))
    axis = ratio_axis([row for _, drawn in found for row in drawn])
    return [forest(title, drawn, axis) for title, drawn in found]


def comparisons(result: Result) -> Html:
    """Every comparison with its margin and its noise."""
    rows = []
    for each in result.comparisons:
        text = f"{each.sentence} {each.baseline}: {ratio_within(each.ratio)}"
        if each.noise is not None:
            text += f"; two sets of the baseline were {each.noise - 1:.1%} apart"
        ratio = each.ratio
        rows.append(
            Ratio(each.name, ratio.value, ratio.low, ratio.high, text, _VERDICTS[each.verdict],
                  each.margin, each.noise)
        )  # fmt: skip
    return forest("Times the baseline, paired round by round", rows, ratio_axis(rows))


def peaks(result: Result) -> list[Html]:
    """The highest rates, and every rate that was tried."""
    sought = [variant for variant in result.variants if variant.peaks]
    rows = [_peak_row(v, v.peak_hz) for v in sought]
    found = [stacks("Highest rate that kept the bound", [("mean of the processes", "main")], rows,
                    "requests/s")]  # fmt: skip
    tried = [probe for v in sought for peak in v.peaks for probe in peak.probes]
    unit_ns, unit = unit_of(min((probe.latency_ns for probe in tried), default=1e6))
    assert isinstance(result.mode, Peak)
    bound_ns, percent = result.mode.bound_ns, result.mode.percent
    across = Axis.around([probe.rate_hz for probe in tried], log=True)
    charted = [
        charts.lines(
            f"{variant.label}: every rate that was tried", curves, x="requests/s",
            y=f"p{percent:g}, {unit}", log=True, across=across,
            level=(bound_ns / unit_ns, f"bound {duration(bound_ns)}"),
        )
        for variant in sought
        for curves in _eights(_probes(variant, unit_ns))
    ]  # fmt: skip
    return [*found, tag("div", *charted, class_="charts")]


def _peak_row(variant: Latency, rate: Interval | None) -> Stack:
    each = [peak.rate_hz for peak in variant.peaks if peak.rate_hz is not None]
    if rate is None:
        return Stack(variant.label, (0.0,), each, "no rate in every process")
    return Stack(variant.label, (rate.value,), each, f"{rounded(rate.value)}/s{ends(rate)}")


def _probes(variant: Latency, unit_ns: float) -> list[Line]:
    """A curve per process."""
    lines = []
    for number, peak in enumerate(variant.peaks):
        probes = sorted((probe.rate_hz, probe.latency_ns / unit_ns) for probe in peak.probes)
        rates, latencies = [rate for rate, _ in probes], [latency for _, latency in probes]
        style = STYLES[number % len(STYLES)]
        lines.append(Line(f"process {number + 1}", rates, latencies, style, dotted=True))
    return lines


def by_first_answer(result: Result) -> list[Latency]:
    """The variants that were started, the one with the earliest answer first."""
    return sorted((v for v in result.variants if v.cold_starts), key=first_answer_ns)


def first_answer_ns(variant: Latency) -> float:
    """From the start of a process to its first answer, median of the processes."""
    return float(median(start.first_answer_ns for start in variant.cold_starts))


def starts(result: Result) -> list[Html]:
    """What a fresh process spends its time on, and its first five calls."""
    started = by_first_answer(result)
    unit_ns, unit = unit_of(max(s.first_answer_ns for v in started for s in v.cold_starts))
    rows = [_start_row(variant, unit_ns) for variant in started]
    found = [stacks("From the start of the process to its first answer", _PHASES, rows, unit)]
    for some in _eights(started):
        curves = [
            Line(variant.label, range(1, len(calls) + 1), calls, style, dotted=True)
            for variant, style in zip(some, STYLES, strict=False)
            if (calls := _calls_ms(variant))
        ]
        across = Axis(0.8, 5.2, names=tuple((float(n), f"{n}") for n in range(1, 6)))
        found.append(
            charts.lines("The first five calls, median of the processes", curves, x="call",
                         y="ms", log=True, across=across)
        )  # fmt: skip
    return found


def _start_row(variant: Latency, unit_ns: float) -> Stack:
    """The parts of the start in the middle: they add up, which medians of the parts do not."""
    ordered = sorted(variant.cold_starts, key=lambda start: start.first_answer_ns)
    middle = ordered[(len(ordered) - 1) // 2]
    parts = (middle.python_ns, middle.import_ns, middle.open_ns, middle.calls_ns[0])
    whole = [start.first_answer_ns for start in ordered]
    text = f"median {duration(first_answer_ns(variant))}, all "
    text += f"{duration(whole[0])} to {duration(whole[-1])}"
    return Stack(variant.label, [n / unit_ns for n in parts], [n / unit_ns for n in whole], text)


def _calls_ms(variant: Latency) -> list[float]:
    return [
        median(each) / 1e6
        for each in zip(*(start.calls_ns for start in variant.cold_starts), strict=True)
    ]


def _by_rows(variants: Sequence[Latency]) -> list[tuple[int, list[Latency]]]:
    ordered = sorted(variants, key=lambda v: v.rows)  # a stable sort: fastest first within
    return [(rows, list(group)) for rows, group in itertools.groupby(ordered, lambda v: v.rows)]


def _at(rows: int, result: Result) -> str:
    swept = len({variant.rows for variant in result.variants}) > 1
    return f", batch {rows}" if swept else ""


def _eights(found: Sequence[_Any]) -> Iterator[Sequence[_Any]]:
    """As many as one chart has styles for."""
    return (found[i : i + len(STYLES)] for i in range(0, len(found), len(STYLES)))
