"""What each engine computed, as tables for a page: the worst of every output, then all of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from edgeport.commands.html_page import Html, items, join, mark, table, tag, words
from edgeport.commands.ratio_plot import Point, RatioPlot

Verdict: TypeAlias = Mapping[str, Any]
"""As ``runtimes.parity.Verdict.to_json`` writes it."""

_MARKS: Final = {
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
    "worst on",
    "decisions",
    "verdict",
)
_EACH: Final = (
    "sample",
    "output",
    "ratio",
    "error",
    "noise floor",
    "largest error",
    "its floor",
    "flips",
    "verdict",
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
        yield table(_title(backend), _WORST, [_worst_row(g, plot) for g in groups], wide=True)
        yield items("ul", [_why(v) for v in map(_worst, groups) if v["status"] == "fail"])
        yield tag(
            "details",
            tag("summary", f"all {len(verdicts)} comparisons"),
            table(f"Every sample on {backend['backend']}", _EACH, map(_row, verdicts), wide=True),
        )


def ratio_of(verdict: Verdict) -> float:
    """Its ratio; JSON has no infinity, so none is one."""
    ratio = verdict["figures"]["ratio"]
    return math.inf if ratio is None else float(ratio)


def _title(backend: Mapping[str, Any]) -> Html:
    name = tag("b", backend["backend"])
    outcome = mark(_MARKS[backend["outcome"]], backend["outcome"])
    title = join([name, f" {_engine(backend)} ", outcome])
    if backend["outcome"] == "pass":
        return title
    why = f"{backend['reason']}; what to do: {backend['remedy']}"
    return join([title, tag("div", words(why))])


def _engine(backend: Mapping[str, Any]) -> str:
    engine = backend["engine"]
    if engine is None:
        return str(backend["file"])
    threads = f"{engine['threads']} thread{'s' * (engine['threads'] != 1)}"
    used = f"{engine['engine']} {engine['version']}, {engine['provider']}, {threads}"
    return f"{backend['file']}, {used}"


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    return max(verdicts, key=lambda v: (v["status"] == "fail", ratio_of(v)))


def _worst_row(verdicts: Sequence[Verdict], plot: RatioPlot) -> list[str]:
    worst = _worst(verdicts)
    points = [_point(v) for v in verdicts if v["figures"]["rule"] != "exact"]
    ratio, error, floor = _figures(worst)
    return [
        tag("code", worst["output"]),
        ratio,
        plot.draw(points) if points else "",
        error,
        floor,
        worst["sample"],
        _decisions(verdicts),
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
        *_figures(verdict),
        *(_number(figures[key]) if measured else "" for key in ("error_max", "floor_max")),
        f"{figures['flips']} of {figures['decisions']}" if figures["decisions"] else "",
        _mark(verdict),
    ]


def _figures(verdict: Verdict) -> tuple[str, str, str]:
    """Ratio, error and floor."""
    figures = verdict["figures"]
    if figures["mismatch"]:
        return "", "differs", ""
    if figures["rule"] == "exact":
        count = figures["error_max"]
        return "", f"{count:.0f} differ" if count else "equal", "exact"
    return _number(figures["ratio"]), _number(figures["error_rms"]), _number(figures["floor_rms"])


def _why(verdict: Verdict) -> Html:
    where = f", {verdict['sample']}: {verdict['reason']}"
    return join([tag("code", verdict["output"]), where])


def _decisions(verdicts: Sequence[Verdict]) -> str:
    count, flips = (sum(v["figures"][key] for v in verdicts) for key in ("decisions", "flips"))
    return "" if not count else f"{flips} of {count} flip" if flips else f"all {count} agree"


def _mark(verdict: Verdict) -> Html:
    return mark(_MARKS[verdict["status"]], verdict["status"])


def _number(value: float | None) -> Html:
    return tag("span", "∞" if value is None else f"{value:.3g}", class_="number")
