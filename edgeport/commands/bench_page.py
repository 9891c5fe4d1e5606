"""The page of a benchmark: the answer first, the doubts next, then every figure and drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from edgeport.commands import bench_plots as plots
from edgeport.commands.html_page import Html, document, items, join, pairs, section, table, tag
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
from edgeport.runtimes.bench import Comparison, Latency, Result
from edgeport.runtimes.bench.disturbance import CLEAN_SHARE
from edgeport.runtimes.bench.statistics import Interval, Percentile

_NONE: Final = "-"
_MOST_DOUBTS: Final = 8
_MOST_VERDICTS: Final = 3


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
            _left_out(result),
            _environment(result),
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
    return text + (f"; {', '.join(alike)} cannot be told from it" if alike else "")


def _most_rows(result: Result) -> str:
    rates = [(v.rows_per_s, v.label) for v in result.variants if v.rows_per_s is not None]
    if len({variant.rows for variant in result.variants}) < 2 or not rates:
        return ""
    rate, label = max(rates)
    return f" Most rows in a second: {rounded(rate)}, {label}."


def _peak_lead(result: Result) -> str:
    known = [(v.peak_hz.value, v.label, v.peak_hz) for v in result.variants if v.peak_hz]
    bound_ns, percent = plots.bound_of(result.mode)
    within = f"p{percent:g} within {duration(bound_ns)}"
    if not known:
        return f"No rate that was tried kept {within} in every process."
    _, label, rate = max(known, key=lambda each: each[0])
    return f"{label} takes {rounded(rate.value)} requests/s{ends(rate)} with {within}."


def _cold_lead(result: Result) -> str:
    known = sorted(
        (median(start.first_answer_ns for start in v.cold_starts), v.label)
        for v in result.variants
        if v.cold_starts
    )
    text = f"{known[0][1]} gives its first answer {duration(known[0][0])} after its process starts"
    if len(known) > 1:
        times = rounded(known[-1][0] / known[0][0])
        text += f"; {known[-1][1]} takes {times} times as long"
    return f"{text}. Medians of {result.processes} starts."


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
            section("Highest rate", _peak_table(result)),
            section("How it was found", _peak_about(), *plots.peaks(result)),
        ]
    if any(variant.cold_starts for variant in result.variants):
        about = "The bar is one start, that in the middle; the small lines are all the starts."
        return [
            section("Start", *_cold_tables(result)),
            section("What the time went to", _quiet(about), *plots.starts(result)),
        ]
    ratios, batches = plots.ratios(result), plots.batches(result)
    return [
        section("Latency", _latency_table(result), _clean_about(), _cost_table(result)),
        *([section("Beside the fastest", *ratios)] if ratios else []),
        *([section("Batch", tag("div", *batches, class_="charts"))] if batches else []),
        section(
            "Distribution",
            _quiet(
                "How far up a curve is, is the share of calls that were at most so slow; every "
                "nine has the same room. The last few points of a curve are single calls."
            ),
            tag("div", *plots.distributions(result), class_="charts"),
        ),
        section(
            "Every round",
            _quiet(
                "The median of each round in the order in which it was measured; the dashed line "
                f"is the median of all calls. A cross is a round of which more than "
                f"{CLEAN_SHARE:.0%} was taken by others, as far as can be seen."
            ),
            tag("div", *plots.rounds(result), class_="charts"),
        ),
    ]


def _wide(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table that can be moved to and fro where it is wider than the page."""
    return tag("div", table(caption, header, rows, wide=True), class_="across")


def _quiet(text: str) -> Html:
    return tag("p", text, class_="quiet")


def _clean_about() -> Html:
    return _quiet(
        f"Clean: the rounds of which others took at most {CLEAN_SHARE:.0%}. Nothing is deleted. "
        "In brackets is the 95 % interval."
    )


def _latency_table(result: Result) -> Html:
    percents = [each.percent for each in result.variants[0].percentiles]
    header = ["variant"]
    for percent in percents:
        header += [f"p{percent:g}", f"p{percent:g} clean"]
    rows = []
    for variant in result.variants:
        cells: list[str] = [variant.label]
        for percent in percents:
            cells += [_cell(variant.percentiles, percent), _cell(variant.clean, percent)]
        ratio = variant.times_fastest
        rows.append([*cells, _NONE if ratio is None else _two_lines(ratio_within(ratio))])
    return _wide("Latency of a call", [*header, "times the fastest"], rows)


def _cell(found: Sequence[Percentile], percent: float) -> str:
    percentile = next((each for each in found if each.percent == percent), None)
    if percentile is None:
        return "no clean round"
    if percentile.latency_ns is None:
        return join(["withheld", tag("span", f"{percentile.missing_calls:,} calls are missing",
                                     class_="sub")])  # fmt: skip
    return _two_lines(duration_within(percentile.latency_ns))


def _two_lines(text: str) -> Html:
    """A figure, and beneath it its interval."""
    figure, bracket, interval = text.partition(" (")
    rest = tag("span", f"({interval}", class_="sub") if bracket else ""
    return join([tag("span", figure, class_="number"), rest])


def _cost_table(result: Result) -> Html:
    header = ["variant", "calls", "clean rounds", "rows/s", "CPU per call", "peak memory",
              "energy per call"]  # fmt: skip
    rows = [
        [
            variant.label,
            f"{variant.calls:,}",
            _NONE if variant.clean_share is None else f"{variant.clean_share:.0%}",
            _NONE if variant.rows_per_s is None else rounded(variant.rows_per_s),
            _NONE if variant.cpu_ns_per_call is None else duration(variant.cpu_ns_per_call),
            _memory(variant),
            _energy(variant.energy_uj_per_call),
        ]
        for variant in result.variants
    ]
    return _wide("What a call costs", header, rows)


def _memory(variant: Latency) -> str:
    found = variant.peak_memory_bytes
    return UNAVAILABLE if found is None else size_text(found)


def _energy(energy_uj: float | None) -> str:
    if energy_uj is None:
        return UNAVAILABLE
    factor, unit = next(each for each in ((1e6, "J"), (1e3, "mJ"), (0.0, "µJ"))
                        if energy_uj >= each[0])  # fmt: skip
    return f"{rounded(energy_uj / (factor or 1))} {unit}"


def _peak_about() -> Html:
    return _quiet(
        "Requests arrive at random (Poisson), and latency counts from when a request was due. "
        "Every process sought the highest rate for itself, by halving the range; the small lines "
        "are what each found."
    )


def _peak_table(result: Result) -> Html:
    header = ["variant", "requests/s", "rows/s", "each process", "peak memory"]
    rows = []
    for variant in result.variants:
        rate = variant.peak_hz
        each = [_NONE if p.rate_hz is None else rounded(p.rate_hz) for p in variant.peaks]
        rows.append(
            [
                variant.label,
                "no rate" if rate is None else _two_lines(f"{rounded(rate.value)}{ends(rate)}"),
                _NONE if rate is None else rounded(rate.value * variant.rows),
                ", ".join(each),
                _memory(variant),
            ]
        )
    caption = "Highest rate; a dash is a process in which no rate kept the bound"
    return _wide(caption, header, rows)


def _cold_tables(result: Result) -> list[Html]:
    parts, calls = [], []
    for variant in plots.by_first_answer(result):
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
        _wide("Medians of the starts, and the least to the most", header, parts),
        _wide("The first calls, likewise", ["variant", *numbers], calls),
    ]


def _median(series_ns: Sequence[int]) -> str:
    middle = float(median(series_ns))
    unit_ns, unit = unit_of(middle)
    return f"{rounded(middle / unit_ns)} {unit}" + ends(
        Interval(middle, min(series_ns), max(series_ns)), unit_ns
    )


def _left_out(result: Result) -> Html:
    if not result.unusable:
        return Html()
    facts = [(e.backend, f"{e.reason or ''} Fix: {e.remedy or _NONE}") for e in result.unusable]
    return section("Not measured", tag("article", pairs(facts)))


def _environment(result: Result) -> Html:
    here = result.environment
    memory = here.memory_bytes
    facts = [
        ("CPU", here.cpu_model),
        ("CPU flags", ", ".join(here.cpu_flags) or "none that decide"),
        ("CPUs", f"{here.cpus} may be used, by affinity and cgroup"),
        ("affinity", _ranges(here.affinity) or UNAVAILABLE),
        ("governor", here.governor or UNAVAILABLE),
        ("memory", UNAVAILABLE if memory is None else size_text(memory)),
        ("load before", f"{here.load_average:.2f} in the last minute"),
        ("container", here.container or "none seen"),
        ("platform", here.platform),
        ("versions", f"edgeport {here.edgeport}, Python {here.python}, NumPy {here.numpy}"),
        ("variables", ", ".join(f"{n}={value}" for n, value in here.variables) or "none set"),
        ("mode", result.mode),
        ("seed", f"{result.seed}"),
        ("time asked", f"{result.budget_s:g} s"),
        ("time taken", f"{result.elapsed_s:.1f} s, with the starts of processes"),
    ]
    engines = [
        [
            variant.label,
            _engine(variant),
            f"{variant.engine.threads}{'' if variant.spinning else ', not spinning'}",
            variant.engine.precision,
            f"{variant.sample}: {_shapes(variant.shapes)}",
            join([variant.file, " ", tag("code", variant.sha256[:12])]),
            join([variant.bundle, " ", tag("code", variant.manifest_sha256[:12])]),
        ]
        for variant in result.variants
    ]
    header = ["variant", "engine", "threads", "precision", "inputs", "file", "bundle"]
    return section(
        "Where and how",
        tag(
            "details",
            tag("summary", "the machine, the engines, the files"),
            tag("article", pairs(facts)),
            _wide("What was timed, with the first digits of SHA-256", header, engines),
        ),
    )


def _engine(variant: Latency) -> str:
    engine = variant.engine
    only = ", its own call only" if variant.engine_only else ""
    return f"{engine.engine} {engine.version}, {engine.provider} on {engine.device}{only}"


def _shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in order, those that follow one another from the first to the last.

    Examples:
        >>> _ranges((0, 1, 2, 3, 8, 10, 11))
        '0-3, 8, 10-11'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
