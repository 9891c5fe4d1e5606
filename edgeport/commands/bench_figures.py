"""The figures of a benchmark as tables of its page: withheld ones say what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from edgeport.commands.bench_plots import by_first_answer
from edgeport.commands.html_page import Html, join, table, tag
from edgeport.commands.quantities import (
    UNAVAILABLE,
    duration,
    duration_within,
    ends,
    ratio_within,
    rounded,
    unit_of,
)
from edgeport.commands.terminal import size_text
from edgeport.runtimes.bench import Latency, Result
from edgeport.runtimes.bench.statistics import Interval, Percentile

NONE: Final = "-"


def latency_table(result: Result) -> Html:
    """Percentiles of all calls, beside those of the clean rounds."""
    percents = [each.percent for each in result.variants[0].percentiles]
    header = [f"p{percent:g}{which}" for percent in percents for which in ("", " clean")]
    rows = []
    for variant in result.variants:
        both = (variant.percentiles, variant.clean)
        rows.append([variant.label, *(_cell(found, p) for p in percents for found in both)])
    header.insert(0, "variant")
    if len(result.variants) > 1:
        header.insert(3, "times the fastest")  # in sight however many percentiles follow
        for row, variant in zip(rows, result.variants, strict=True):
            ratio = variant.times_fastest
            row.insert(3, NONE if ratio is None else _two_lines(ratio_within(ratio)))
    return wide_table("Latency of a call", header, rows)


def _cell(found: Sequence[Percentile], percent: float) -> str:
    percentile = next((each for each in found if each.percent == percent), None)
    if percentile is None:
        return "no clean round"
    if percentile.latency_ns is None:
        return join(["withheld", tag("span", f"calls missing: {percentile.missing_calls:,}",
                                     class_="sub")])  # fmt: skip
    return _two_lines(duration_within(percentile.latency_ns))


def cost_table(result: Result) -> Html:
    """Calls, rows, CPU time, memory and energy."""
    header = ["variant", "calls", "clean rounds", "rows/s", "CPU per call", "peak memory",
              "energy per call"]  # fmt: skip
    rows = [
        [
            variant.label,
            f"{variant.calls:,}",
            NONE if variant.clean_share is None else f"{variant.clean_share:.0%}",
            NONE if variant.rows_per_s is None else rounded(variant.rows_per_s),
            NONE if variant.cpu_ns_per_call is None else duration(variant.cpu_ns_per_call),
            _memory(variant),
            _energy(variant.energy_uj_per_call),
        ]
        for variant in result.variants
    ]
    return wide_table("What a call costs", header, rows)


def peak_table(result: Result) -> Html:
    """The highest rate of every variant and of every process."""
    header = ["variant", "requests/s", "rows/s", "each process", "peak memory"]
    rows = []
    for variant in result.variants:
        rate = variant.peak_hz
        each = [NONE if p.rate_hz is None else rounded(p.rate_hz) for p in variant.peaks]
        rows.append(
            [
                variant.label,
                "no rate" if rate is None else _two_lines(f"{rounded(rate.value)}{ends(rate)}"),
                NONE if rate is None else rounded(rate.value * variant.rows),
                ", ".join(each),
                _memory(variant),
            ]
        )
    caption = "Highest rate; a dash is a process in which no rate kept the bound"
    return wide_table(caption, header, rows)


def cold_tables(result: Result) -> list[Html]:
    """The parts of the start, and the first calls."""
    parts, calls = [], []
    for variant in by_first_answer(result):
        starts = variant.cold_starts
        series = [
            [start.first_answer_ns for start in starts],
            [start.python_ns for start in starts],
            [start.import_ns for start in starts],
            [start.open_ns for start in starts],
        ]
        cells = [_two_lines(_median(each)) for each in series]
        parts.append([variant.label, *cells, _memory(variant)])
        each_call = list(zip(*(start.calls_ns for start in starts), strict=True))
        calls.append([variant.label, *(_two_lines(_median(each)) for each in each_call)])
    header = ["variant", "first answer", "python", "import", "open", "peak memory"]
    numbers = [f"call {number}" for number in range(1, len(calls[0]))]
    return [
        wide_table("Medians of the starts, and the least to the most", header, parts),
        wide_table("The first calls, likewise", ["variant", *numbers], calls),
    ]


def _median(series_ns: Sequence[int]) -> str:
    middle = float(median(series_ns))
    unit_ns, unit = unit_of(middle)
    return f"{rounded(middle / unit_ns)} {unit}" + ends(
        Interval(middle, min(series_ns), max(series_ns)), unit_ns
    )


def _two_lines(text: str) -> Html:
    """A figure, and beneath it its interval."""
    figure, bracket, interval = text.partition(" (")
    rest = tag("span", f"({interval}", class_="sub") if bracket else ""
    return join([tag("span", figure, class_="number"), rest])


def _memory(variant: Latency) -> str:
    found = variant.peak_memory_bytes
    return UNAVAILABLE if found is None else size_text(found)


def _energy(energy_uj: float | None) -> str:
    if energy_uj is None:
        return UNAVAILABLE
    factor, unit = next(each for each in ((1e6, "J"), (1e3, "mJ"), (0.0, "µJ"))
                        if energy_uj >= each[0])  # fmt: skip
    return f"{rounded(energy_uj / (factor or 1))} {unit}"


def wide_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table that can be moved to and fro where it is wider than the page."""
    return tag("div", table(caption, header, rows, wide=True), class_="across")
