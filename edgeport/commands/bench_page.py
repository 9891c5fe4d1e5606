"""The page of a benchmark: the answer first, the doubts next, then every figure and drawing."""

from __future__ import annotations

from typing import Final

from edgeport.commands import bench_plots as plots
from edgeport.commands.bench_conditions import environment
from edgeport.commands.bench_figures import (
    NONE,
    cold_tables,
    cost_table,
    latency_table,
    peak_table,
)
from edgeport.commands.bench_gpu import gpu_section
from edgeport.commands.bench_lead import lead
from edgeport.commands.html_page import Html, document, items, pairs, section, tag
from edgeport.runtimes.bench import Result
from edgeport.runtimes.bench.disturbance import CLEAN_SHARE

_MOST_DOUBTS: Final = 8


def render_page(result: Result) -> str:
    """Write the page, which loads nothing and runs nothing.

    Args:
        result: Of any mode.
    """
    return document(
        f"{_names(result)}: {result.mode}",
        [
            _headline(result),
            _doubts(result),
            *_compared(result),
            *_figures(result),
            *gpu_section(result),
            _left_out(result),
            environment(result),
        ],
    )


def _names(result: Result) -> str:
    return " and ".join(dict.fromkeys(variant.bundle for variant in result.variants))


def _headline(result: Result) -> Html:
    here, doubts = result.environment, _all_doubts(result)
    calls = sum(variant.calls for variant in result.variants)
    starts = f"{result.processes:,} fresh processes"
    facts = [
        ("machine", f"{here.cpu_model}, {here.cpus} CPUs"),
        ("measured", f"{starts} x {result.rounds} rounds" if calls else f"{starts} of each"),
        ("calls", f"{calls:,}" if calls else ""),
        ("time", f"{result.elapsed_s:.3g} s"),
        ("doubts", f"{len(doubts)}" if doubts else ""),
    ]
    return tag(
        "header",
        tag("p", "?" if doubts else "✓", class_="seal", aria_hidden="true"),
        tag("h1", _names(result), tag("em", f" {result.mode}")),
        tag("p", lead(result), class_="lead"),
        pairs(facts),
        class_="doubt" if doubts else "good",
    )


def _all_doubts(result: Result) -> list[str]:
    own = [f"{v.label}: {doubt}" for v in result.variants for doubt in v.doubts]
    return [*result.doubts, *own]


def _doubts(result: Result) -> Html:
    doubts = _all_doubts(result)
    if not doubts:
        return Html()
    rest = doubts[_MOST_DOUBTS:]
    more = tag("details", tag("summary", f"{len(rest)} more"), items("ul", rest)) if rest else ""
    return section(
        "Reasons to doubt these figures", items("ul", doubts[:_MOST_DOUBTS]), more, class_="doubts"
    )


def _compared(result: Result) -> list[Html]:
    if not result.comparisons:
        return []
    about = (
        "The diamond is how many times longer it takes than its baseline, the line its 95 % "
        "interval. Within the grey band a difference does not matter"
    )
    if any(each.noise is not None for each in result.comparisons):
        about += "; within the yellow one, two sets of processes of the baseline itself differed"
    return [section("Comparison", _quiet(f"{about}."), plots.comparisons(result))]


def _figures(result: Result) -> list[Html]:
    if any(variant.peaks for variant in result.variants):
        return [
            section("Highest rate", peak_table(result)),
            section("How it was found", _peak_about(), *plots.peaks(result)),
        ]
    if any(variant.cold_starts for variant in result.variants):
        about = "The bar is one start, that in the middle; the small lines are all the starts."
        return [
            section("Start", *cold_tables(result)),
            section("What the time went to", _quiet(about), *plots.starts(result)),
        ]
    ratios, batches = plots.ratios(result), plots.batches(result)
    return [
        section("Latency", latency_table(result), _clean_about(), cost_table(result)),
        *([section("Beside the fastest", *ratios)] if ratios else []),
        *([section("Batch", tag("div", *batches, class_="charts"))] if batches else []),
        section(
            "Distribution",
            _quiet(
                "How many of the calls took at most so long: a point at p90 is the latency that "
                "90 % of them kept. The scale spreads the slowest calls; the last few points are "
                "single ones."
            ),
            tag("div", *plots.distributions(result), class_="charts"),
        ),
        section(
            "Every round",
            _quiet(
                "The median of each round, or of a few beside one another, in the order in which "
                "they were measured; the dashed line is the median of all calls. A cross: more "
                f"than {CLEAN_SHARE:.0%} of the time was taken by others, as far as can be seen."
            ),
            tag("div", *plots.rounds(result), class_="charts"),
        ),
    ]


def _quiet(text: str) -> Html:
    return tag("p", text, class_="quiet")


def _clean_about() -> Html:
    return _quiet(
        "Clean: only the rounds in which other processes took at most "
        f"{CLEAN_SHARE:.0%} of the time. In brackets: the 95 % interval."
    )


def _peak_about() -> Html:
    return _quiet(
        "Requests arrive at random (Poisson), and latency counts from when a request was due. "
        "Every process sought the highest rate for itself, by halving the range; the small lines "
        "are what each found."
    )


def _left_out(result: Result) -> Html:
    if not result.unusable:
        return Html()
    facts = [(e.backend, f"{e.reason or ''} Fix: {e.remedy or NONE}") for e in result.unusable]
    return section("Not measured", tag("article", pairs(facts)))
