"""What each engine computed, as tables for a page: the worst of every output, then all of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from edgeport.commands.html_page import Html, items, join, mark, table, tag, words
from edgeport.commands.ratio_plot import Point, RatioPlot
from edgeport.runtimes.formats.records import from_json
from edgeport.runtimes.parity.repeats import Repeats
from edgeport.runtimes.parity.thresholds import Precision, Thresholds, floor_scale

Verdict: TypeAlias = Mapping[str, Any]
"""As ``runtimes.parity.Verdict.to_json`` writes it."""

MARKS: Final = {
    "pass": "✓ pass",
    "fail": "✗ fail",
    "unusable": "- not usable here",
    "uninformative": "? proves nothing",
}
_WORST: Final = (
    "output",
    "ratio",
    "every sample",
    "error",
    "noise floor",
    "signal to noise",
    "worst on",
    "decisions",
    "verdict",
)
_NARROW: Final = ("output", "signal to noise", "error", "worst on", "decisions", "verdict")
"""In a narrower precision, whose noise is far beyond the module's noise floor."""
_CROSSED: Final = (("rms", "max"), ("max", "rms"))
"""One quotient is the larger if its error times the other's floor is: a floor may be 0."""

_EACH: Final = (
    "sample",
    "output",
    "verdict",
    "ratio",
    "error",
    "noise floor",
    "largest error",
    "its floor",
    "signal to noise",
    "cosine",
    "ulps: middle, most",
    "flips",
)


def proof_tables(backends: Sequence[Mapping[str, Any]], plot: RatioPlot) -> Iterator[Html]:
    """The tables of each backend.

    Args:
        backends: As ``BackendReport.to_json`` writes them.
        plot: The axis for the ratios of all samples.
    """
    for backend in backends:
        verdicts = backend["verdicts"]
        if not verdicts:
            yield tag("div", _title(backend))
            continue
        names = dict.fromkeys(v["output"] for v in verdicts)
        groups = [[v for v in verdicts if v["output"] == name] for name in names]
        worst = list(map(_noisiest if backend["reduced"] else worst_of, groups))
        if backend["reduced"]:
            rows = [_narrow_row(*pair) for pair in zip(worst, map(owing, groups), strict=True)]
            yield table(_title(backend), _NARROW, rows, wide=True)
        else:
            yield table(_title(backend), _WORST, [_worst_row(g, plot) for g in groups], wide=True)
        yield items("ul", [_why(v) for v in worst if v["status"] == "fail"])
        yield items("ul", list(map(words, _on_gpu(backend))))
        yield every_comparison(backend)


def _on_gpu(backend: Mapping[str, Any]) -> list[str]:
    """What was computed on the CPU all the same, and whether it answers with the same bits."""
    engine, repeats = backend["engine"], backend["repeats"]
    nodes = ", ".join(engine["cpu_nodes"]) if engine else ""
    lines = [f"On the CPU, as allowed: {nodes}."] if nodes else []
    return lines if repeats is None else [*lines, f"{from_json(Repeats, repeats)}."]


def every_comparison(backend: Mapping[str, Any]) -> Html:
    """A table of all that one backend was compared on, closed until a reader opens it."""
    verdicts = backend["verdicts"]
    rows = table(f"Every sample on {backend['backend']}", _EACH, map(_row, verdicts))
    return tag(
        "details",
        tag("summary", f"all {len(verdicts):,} comparisons on {backend['backend']}"),
        tag("div", rows, class_="scroll", tabindex="0"),
    )


def share_of_limit(
    verdict: Verdict, backend: Mapping[str, Any], thresholds: Mapping[str, Any]
) -> float:
    """How near a verdict is to the limit of its output: 1 is at it; an edge case may be beyond."""
    limit: float = thresholds["outputs"].get(verdict["output"], thresholds["max_ratio"])
    reduced, ratio = backend["reduced"], ratio_of(verdict)
    if reduced is None or math.isinf(ratio):
        return ratio / limit
    share = ratio / floor_scale(reduced, verdict["figures"]["dtype"]) / limit
    signal_db = verdict["figures"]["snr_db"]
    if verdict["kind"] == "edge" or signal_db is None:  # which owes no signal, or has no noise
        return share
    noise: float = 10 ** ((least_signal_db(reduced, thresholds) - signal_db) / 20)
    return max(noise, share)


def least_signal_db(reduced: Precision, thresholds: Mapping[str, Any]) -> float:
    """Signal over noise that an artefact in a narrower precision must keep."""
    least: float = from_json(Thresholds, thresholds).bar_of(reduced).min_snr_db
    return least


def least_signal(backend: Mapping[str, Any]) -> float:
    """Signal over noise, in dB, where it is least and some has to be; 999 where nothing is lost."""
    signals = (
        verdict["figures"]["snr_db"]
        for verdict in backend["verdicts"]
        if verdict["kind"] != "edge" and verdict["figures"]["rule"] != "exact"
    )
    return min((signal for signal in signals if signal is not None), default=999.0)


def worst_of(verdicts: Sequence[Verdict]) -> Verdict:
    """A failure before a pass, then the larger ratio."""
    return max(verdicts, key=lambda v: (v["status"] == "fail", ratio_of(v)))


def _noisiest(verdicts: Sequence[Verdict]) -> Verdict:
    """A failure first, then the least signal over noise; an edge case owes none."""

    def rank(verdict: Verdict) -> tuple[bool, bool, float]:
        signal = verdict["figures"]["snr_db"]
        noise = -math.inf if signal is None else -signal
        return verdict["status"] == "fail", verdict["kind"] != "edge", noise

    return max(verdicts, key=rank)


def owing(verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
    """Without edge cases, which owe no signal in a narrower precision: any decision may flip."""
    return [v for v in verdicts if v["kind"] != "edge" or v["status"] == "fail"] or verdicts


def ratio_of(verdict: Verdict) -> float:
    """Its ratio; JSON has no infinity, so none is one."""
    ratio = verdict["figures"]["ratio"]
    return math.inf if ratio is None else float(ratio)


def _title(backend: Mapping[str, Any]) -> Html:
    name = tag("b", backend["backend"])
    outcome = mark(MARKS[backend["outcome"]], backend["outcome"])
    title = join([name, f" {engine_of(backend)} ", outcome])
    if backend["outcome"] == "pass":
        return title
    why = f"{backend['reason']}; what to do: {backend['remedy']}"
    return join([title, tag("div", words(why))])


def engine_of(backend: Mapping[str, Any]) -> str:
    """The file and what opened it."""
    engine = backend["engine"]
    if engine is None:
        return str(backend["file"])
    threads = f"{engine['threads']} thread{'s' * (engine['threads'] != 1)}"
    used = f"{engine['engine']} {engine['version']}, {engine['provider']}, {threads}"
    on = "" if engine["device"] == "cpu" else f" on {engine['device']}"
    return f"{backend['file']}, {used}{on}"


def _worst_row(verdicts: Sequence[Verdict], plot: RatioPlot) -> list[str]:
    worst = worst_of(verdicts)
    points = [_point(v) for v in verdicts if v["figures"]["rule"] != "exact"]
    ratio, error, floor = _figures(worst, deciding=True)
    return [
        tag("code", worst["output"]),
        ratio,
        plot.draw(points) if points else "",
        error,
        floor,
        _snr(worst),
        worst["sample"],
        decisions(verdicts),
        _mark(worst),
    ]


def _narrow_row(worst: Verdict, verdicts: Sequence[Verdict]) -> list[str]:
    _, error, _ = _figures(worst)
    return [
        tag("code", worst["output"]),
        _snr(worst),
        error,
        worst["sample"],
        decisions(verdicts),
        _mark(worst),
    ]


def _point(verdict: Verdict) -> Point:
    return Point(verdict["sample"], ratio_of(verdict), verdict["status"] == "pass")


def _row(verdict: Verdict) -> list[str]:
    figures = verdict["figures"]
    measured = figures["rule"] != "exact" and not figures["mismatch"]
    return [
        verdict["sample"],
        tag("code", verdict["output"]),
        _mark(verdict),
        *_figures(verdict),
        *(number(figures[key]) if measured else "" for key in ("error_max", "floor_max")),
        _snr(verdict),
        f"{figures['cosine']:.7g}" if measured and figures["cosine"] is not None else "",
        f"{figures['ulp_median']:,}, {figures['ulp_max']:,}" if measured else "",
        _flips(figures),
    ]


def _figures(verdict: Verdict, *, deciding: bool = False) -> tuple[str, str, str]:
    """Ratio, error and floor: rms, or those of which the ratio is the quotient."""
    figures = verdict["figures"]
    if figures["mismatch"]:
        return "", "differs", ""
    if figures["rule"] == "exact":
        count = figures["error_max"]
        return "", f"{count:.0f} differ" if count else "equal", "exact"
    measure = "rms"
    if deciding and figures["error_max"] is not None and figures["error_rms"] is not None:
        rms, largest = (figures[f"error_{m}"] * figures[f"floor_{n}"] for m, n in _CROSSED)
        measure = "max" if largest > rms else "rms"
    error, floor = (figures[f"{name}_{measure}"] for name in ("error", "floor"))
    return number(figures["ratio"]), number(error), number(floor)


def _snr(verdict: Verdict) -> str:
    snr = verdict["figures"]["snr_db"]
    return "" if snr is None or verdict["figures"]["rule"] == "exact" else f"{snr:.0f} dB"


def _flips(figures: Mapping[str, Any]) -> str:
    if not figures["decisions"]:
        return ""
    outside = f", {figures['flips_outside']} beyond noise" if figures["flips_outside"] else ""
    return f"{figures['flips']} of {figures['decisions']}{outside}"


def _why(verdict: Verdict) -> Html:
    where = f", {verdict['sample']}: {verdict['reason']}"
    return join([tag("code", verdict["output"]), where])


def decisions(verdicts: Sequence[Verdict]) -> str:
    """How many rows have another argmax than eager's; nothing where there is none to choose."""
    count, flips = (sum(v["figures"][key] for v in verdicts) for key in ("decisions", "flips"))
    if not flips:
        return f"all {count:,} agree" if count else ""
    passed = all(v["status"] == "pass" for v in verdicts)
    return f"{flips:,} of {count:,} flip" + ", within noise" * passed


def _mark(verdict: Verdict) -> Html:
    return mark(MARKS[verdict["status"]], verdict["status"])


def number(value: float | None) -> Html:
    """Three digits; ``None`` is infinity."""
    return tag(
        "span", "∞" if value is None or math.isinf(value) else f"{value:.3g}", class_="number"
    )
