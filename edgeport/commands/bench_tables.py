"""What ``edgeport bench`` and ``edgeport compare`` print for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from edgeport.commands.bench_gpu import gpu_text
from edgeport.commands.quantities import ratio_within, rounded
from edgeport.commands.terminal import Colour, coloured, plain, size_text, table
from edgeport.runtimes.bench import Closed, Comparison, Latency, Result
from edgeport.runtimes.bench.compared import Verdict
from edgeport.runtimes.bench.disturbance import CLEAN_SHARE
from edgeport.runtimes.bench.statistics import Interval, Percentile

WITHHELD: Final = "—"

_COLOURS: Final[Mapping[Verdict, Colour]] = {
    "faster": "green", "slower": "red", "equivalent": "bold", "inconclusive": "yellow",
}  # fmt: skip


def render(result: Result) -> str:
    """Lay a result out."""
    blocks = [_conditions(result)]
    if any(variant.cold_starts for variant in result.variants):
        blocks.append(_cold(result))
    elif any(variant.peaks for variant in result.variants):
        blocks.append(_peaks(result))
    else:
        blocks.append(_latencies(result))
    more = (gpu_text(result), _comparisons(result.comparisons), _notes(result))
    blocks += [text for text in more if text]
    return "\n\n".join(blocks)


def _conditions(result: Result) -> str:
    first = result.variants[0]
    names = " and ".join(dict.fromkeys(variant.bundle for variant in result.variants))
    threads = "/".join(dict.fromkeys(str(v.engine.threads) for v in result.variants))
    shapes = {", ".join(f"{n} {list(s)}" for n, s in v.shapes.items()) for v in result.variants}
    what = plain(shapes.pop()) if len(shapes) == 1 else f"{len(shapes)} shapes of its inputs"
    here = result.environment
    rounds = f" x {result.rounds} rounds in random order" if first.calls else ""
    processes = "process" if result.processes == 1 else "processes"
    return (
        f"{coloured(plain(names), 'bold')}: {what}, {result.mode}, threads {threads}\n"
        f"{result.processes} fresh {processes}{rounds}, {result.elapsed_s:.0f} s; "
        f"{here.cpu_model}, {here.cpus} CPUs"
    )


def _latencies(result: Result) -> str:
    unit, unit_ns = _unit([variant.median_ns for variant in result.variants])
    percents = [percentile.percent for percentile in result.variants[0].percentiles]
    header = ["", f"p50 {unit}", "95 % interval", *(f"p{p:g}" for p in percents if p != 50)]
    header += ["clean p50", "rows/s", f"CPU {unit}", "memory", "times the fastest"]
    rows = [_latency(variant, unit_ns) for variant in result.variants]
    right = [1, *range(3, len(header) - 1)]
    return table(header, rows, right)


def _latency(variant: Latency, unit_ns: float) -> list[str]:
    middle = next((p for p in variant.percentiles if p.percent == 50), None)
    others = [p for p in variant.percentiles if p.percent != 50]
    clean = next((p for p in variant.clean if p.percent == 50), None)
    return [
        plain(variant.label),
        _value(middle, unit_ns),
        _ends(middle.latency_ns if middle else None, unit_ns),
        *(_value(percentile, unit_ns) for percentile in others),
        _value(clean, unit_ns),
        WITHHELD if variant.rows_per_s is None else rounded(variant.rows_per_s),
        WITHHELD if variant.cpu_ns_per_call is None else rounded(variant.cpu_ns_per_call / unit_ns),
        _memory(variant),
        _times(variant.times_fastest),
    ]


def _peaks(result: Result) -> str:
    header = ["", "requests/s", "95 % interval", "rows/s", "processes found", "memory"]
    rows = []
    for variant in result.variants:
        rate = variant.peak_hz
        found = [WITHHELD if p.rate_hz is None else rounded(p.rate_hz) for p in variant.peaks]
        rows.append(
            [
                plain(variant.label),
                WITHHELD if rate is None else rounded(rate.value),
                _ends(rate, 1),
                WITHHELD if rate is None else rounded(rate.value * variant.rows),
                ", ".join(found),
                _memory(variant),
            ]
        )
    return table(header, rows, right=[1, 3, 5])


def _cold(result: Result) -> str:
    header = ["ms, median", "first answer", "least to most", "python", "import", "open"]
    header += ["call 1", "call 2", "call 3", "call 4", "call 5", "memory"]
    rows = []
    for variant in result.variants:
        starts = variant.cold_starts
        whole = [start.first_answer_ns for start in starts]
        parts = [[s.python_ns for s in starts], [s.import_ns for s in starts]]
        parts += [[s.open_ns for s in starts]]
        parts += [list(each) for each in zip(*(s.calls_ns for s in starts), strict=True)]
        rows.append(
            [
                plain(variant.label),
                rounded(median(whole) / 1e6),
                f"{rounded(min(whole) / 1e6)} to {rounded(max(whole) / 1e6)}",
                *(rounded(median(each) / 1e6) for each in parts),
                _memory(variant),
            ]
        )
    rows.sort(key=lambda row: float(row[1].replace(",", "")))
    return table(header, rows, right=[1, *range(3, len(header))])


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    return "\n".join(map(compared, comparisons))


def compared(comparison: Comparison) -> str:
    """A comparison in a sentence, with its figures."""
    ratio = comparison.ratio
    figures = f"{ratio.value:.3f}"
    if ratio.low is not None and ratio.high is not None:
        figures += f" ({ratio.low:.3f} to {ratio.high:.3f})"
    if comparison.noise is not None:
        figures += f"; two sets of the baseline were {comparison.noise - 1:.1%} apart"
    return f"{coloured(plain(str(comparison)), _COLOURS[comparison.verdict])}: {figures}"


def _notes(result: Result) -> str:
    lines = [f"{plain(v.label)}: {doubt}" for v in result.variants for doubt in v.doubts]
    lines = [coloured(line, "yellow") for line in (*result.doubts, *lines)]
    for variant in result.variants:
        lines += _withheld(result, variant)
    if isinstance(result.mode, Closed):
        text = "calls follow one another; a device that idles between them is slower: --mode paced"
        lines.append(coloured(f"{text}:5ms", "dim"))
    if result.variants[0].calls:
        lines.append(coloured(_explained(result), "dim"))
    for entry in result.unusable:
        lines += ["", f"{coloured(entry.backend, 'bold')}: {entry.reason}"]
        lines.append(f"  fix: {entry.remedy}")
    return "\n".join(lines)


def _explained(result: Result) -> str:
    shares = [v.clean_share for v in result.variants if v.clean_share is not None]
    joules = [v.energy_uj_per_call for v in result.variants if v.energy_uj_per_call is not None]
    clean = f"clean: the rounds ({min(shares):.0%}" if shares else "clean: the rounds (none"
    if shares and max(shares) > min(shares):
        clean += f" to {max(shares):.0%}"
    clean += f") of which others took less than {CLEAN_SHARE:.0%}; "
    if len(joules) < len(result.variants):
        return clean + "energy: unavailable"
    each = ", ".join(f"{v.label} {v.energy_uj_per_call / 1e3:.3g}" for v in result.variants
                     if v.energy_uj_per_call is not None)  # fmt: skip
    return f"{clean}energy of the machine in mJ a call: {each}"


def _withheld(result: Result, variant: Latency) -> list[str]:
    missing = {p.percent: p.missing_calls for p in variant.percentiles if p.missing_calls}
    if not missing:
        return []
    enough_s = math.ceil(result.budget_s * (1 + max(missing.values()) / variant.calls))
    wanted = ", ".join(f"{calls} for p{percent:g}" for percent, calls in missing.items())
    return [f"{plain(variant.label)}: more calls needed: {wanted}; try --seconds {enough_s}"]


def _unit(medians_ns: Sequence[float | None]) -> tuple[str, float]:
    """One unit for the whole table, so that rows can be compared at a glance."""
    known = [ns for ns in medians_ns if ns is not None]
    return ("ms", 1e6) if not known or min(known) >= 1e6 else ("µs", 1e3)


def _value(percentile: Percentile | None, unit_ns: float) -> str:
    if percentile is None or percentile.latency_ns is None:
        return WITHHELD
    return rounded(percentile.latency_ns.value / unit_ns)


def _ends(interval: Interval | None, unit: float) -> str:
    if interval is None or interval.low is None or interval.high is None:
        return WITHHELD
    return f"{rounded(interval.low / unit)} to {rounded(interval.high / unit)}"


def _memory(variant: Latency) -> str:
    return WITHHELD if variant.peak_memory_bytes is None else size_text(variant.peak_memory_bytes)


def _times(ratio: Interval | None) -> str:
    if ratio is None:
        return WITHHELD
    if ratio.low is None or ratio.high is None or ratio.low == ratio.high == 1:
        return f"{ratio.value:.2f}"  # too few processes for an interval, or the fastest itself
    return ratio_within(ratio)
