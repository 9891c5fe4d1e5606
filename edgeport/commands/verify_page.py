"""A parity report as a page for people: the verdict first, then where it is hot, then all."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edgeport.commands.error_plots import histogram, walk_plot
from edgeport.commands.heat_map import heat_map
from edgeport.commands.html_page import (
    Html,
    document,
    items,
    join,
    mark,
    pairs,
    section,
    table,
    tag,
    words,
)
from edgeport.commands.proof_tables import (
    MARKS,
    Verdict,
    engine_of,
    every_comparison,
    least_signal,
    least_signal_db,
    number,
    ratio_of,
    share_of_limit,
    worst_of,
)
from edgeport.commands.ratio_plot import Point, RatioPlot
from edgeport.commands.verify_lead import Told, headline, hottest, outcome, verdicts
from edgeport.runtimes.bundles.manifest import Artefact

_MOST_HISTOGRAMS: Final = 12
_MOST_REASONS: Final = 6

_MADE: Final = ("quantization", "ranges", "float32")
"""Details of an artefact in a narrower precision."""


def page(
    told: Told,
    walk: Sequence[Mapping[str, Any]] | None = None,
    artefacts: Sequence[Artefact] = (),
) -> str:
    """Write the page.

    Args:
        told: As ``Report.to_json`` writes it.
        walk: As ``walk_plot`` takes it: the values between the inputs and a wrong output.
        artefacts: Of the bundle, if it is at hand: how those were made that compute in less.
    """
    backends = told["backends"]
    title = f"{told['name']}: {outcome(told)[1].strip()}"
    return document(
        title,
        [
            headline(told),
            _failures(backends),
            _backends(told, artefacts),
            walk_section(walk, told["thresholds"]["max_ratio"]),
            _map(told),
            _worst(told),
            _histograms(told),
            _all(backends),
            _made_with(told),
        ],
    )


def _failures(backends: Sequence[Mapping[str, Any]]) -> str:
    wrong = [b for b in backends if b["outcome"] in ("fail", "uninformative")]
    if not wrong:
        return ""
    return section("What is wrong", *map(_failure, wrong), class_="failure")


def _failure(backend: Mapping[str, Any]) -> Html:
    failed = [v for v in backend["verdicts"] if v["status"] == "fail"]
    by_output = {v["output"]: [w for w in failed if w["output"] == v["output"]] for v in failed}
    reasons = [_reason(output, group) for output, group in by_output.items()]
    more = len(reasons) - _MOST_REASONS
    return tag(
        "article",
        tag("h3", backend["backend"], tag("span", backend["reason"] or "", class_="problem")),
        items("ul", reasons[:_MOST_REASONS]),
        tag("p", f"and {more} more outputs: see the map", class_="quiet") if more > 0 else "",
        tag("p", tag("b", "What to do: "), words(backend["remedy"] or "")),
    )


def _reason(output: str, failed: Sequence[Verdict]) -> Html:
    worst = worst_of(failed)
    others = f" ({len(failed)} samples failed)" if len(failed) > 1 else ""
    return join([tag("code", output), f", {worst['sample']}: {worst['reason']}{others}"])


def _backends(told: Told, artefacts: Sequence[Artefact]) -> str:
    """One line for each: its outcome, and the worst of each output."""
    ratios = [ratio_of(v) for backend, v in verdicts(told) if not backend["reduced"]]
    plot = RatioPlot.around(ratios, told["thresholds"]["max_ratio"])
    rows = [_backend_row(told, backend, plot) for backend in told["backends"]]
    header = ("backend", "verdict", "ratio of each output", "largest", "engine")
    about = (
        "Ratio: error over noise floor, the rounding error of PyTorch's own arithmetic. "
        "Around 1 it is as good as PyTorch."
    )
    if not ratios:
        header = ("backend", "verdict", "signal over noise", "least", "engine")
        about = "Noise: what differs from PyTorch in float64. At 20 dB it is a tenth of the signal."
    return section(
        "The backends",
        tag("p", about, class_="quiet"),
        *(tag("p", _narrowed(artefact)) for artefact in artefacts if _narrowed(artefact)),
        table("Every backend that fits the bundle", header, rows, wide=True),
    )


def _narrowed(artefact: Artefact) -> str:
    """How a file was made that computes in less; its ranges were measured on what is named."""
    told = [f"{key} {artefact.details[key]}" for key in _MADE if key in artefact.details]
    return f"{artefact.stored.file} in {artefact.precision}: {', '.join(told)}." if told else ""


def _backend_row(told: Told, backend: Mapping[str, Any], plot: RatioPlot) -> list[str]:
    outcome = mark(MARKS[backend["outcome"]], backend["outcome"])
    groups: dict[str, list[Verdict]] = {}
    for verdict in backend["verdicts"]:
        if verdict["figures"]["rule"] != "exact":
            groups.setdefault(verdict["output"], []).append(verdict)
    worst = [worst_of(group) for group in groups.values()]
    points = [
        Point(f"{v['output']}, {v['sample']}", ratio_of(v), v["status"] == "pass") for v in worst
    ]
    drawn = plot.draw(points) if points else ""
    most = number(ratio_of(max(worst, key=ratio_of))) if worst else ""
    if backend["reduced"] and worst:
        least = least_signal_db(backend["reduced"], told["thresholds"])
        drawn = f"{least:g} dB expected in {backend['reduced']}"
        most = f"{least_signal(backend):.1f}\N{NO-BREAK SPACE}dB"
    return [
        backend["backend"],
        outcome,
        drawn,
        most,
        engine_of(backend) if backend["engine"] else backend["reason"] or "",
    ]


def walk_section(walk: Sequence[Mapping[str, Any]] | None, limit: float) -> str:
    """Floor and error from the inputs to a wrong output; empty where nothing is wrong.

    Args:
        walk: As ``walk_plot`` takes it.
        limit: As ``walk_plot`` takes it.
    """
    if not walk:
        return ""
    key = tag(
        "p", tag("i", class_="walk-error"), "error of the backend ",
        tag("i", class_="walk-floor"), "noise floor: PyTorch's own rounding error",
        class_="key quiet",
    )  # fmt: skip  # as it reads
    plot = tag("div", walk_plot(walk, limit), class_="scroll", tabindex="0")
    return section("Where it goes wrong", key, plot)


def _map(told: Told) -> str:
    drawn = heat_map(told["backends"], told["thresholds"])
    if not drawn:
        return ""
    about = "One cell for every output and sample; its colour is the ratio."
    if all(backend["reduced"] for backend in told["backends"]):
        about = "One cell for every output and sample; its colour is the noise, 8 what is allowed."
    return section("The map", tag("p", about, class_="quiet"), drawn)


def _worst(told: Told) -> str:
    """The values of the comparison that is hottest and has some."""
    compared = verdicts(told)
    shown = [(b, v) for b, v in compared if v["status"] == "fail"] or compared
    if not shown:
        return ""
    backend, verdict = hottest(told, shown)
    figures = verdict["figures"]
    where = [
        ("output", verdict["output"]),
        ("backend", backend["backend"]),
        ("sample", verdict["sample"]),
        ("verdict", verdict["reason"]),
    ]
    return section(
        "The worst sample" if verdict["status"] == "fail" else "The largest error",
        pairs(where),
        _places(verdict) if figures["places"] else "",
        _non_finite(figures["non_finite"]) if figures["non_finite"] else "",
        class_="worst",
    )


def _places(verdict: Verdict) -> Html:
    figures = verdict["figures"]
    header = ["place", "backend", "PyTorch", "in float64", "error", "in floors"]
    if figures["rule"] == "exact":
        rows = [
            [str(p["index"]), _value(p["actual"]), _value(p["eager"])] for p in figures["places"]
        ]
        return table("The first elements that differ", header[:3], rows, wide=True)
    rows = [_place(place, figures["floor_max"]) for place in figures["places"]]
    return table("The elements with the largest errors", header, rows, wide=True)


def _place(place: Mapping[str, Any], floor: float) -> list[str]:
    actual, eager, oracle = (place[key] for key in ("actual", "eager", "oracle"))
    error = abs(actual - (eager if oracle is None else oracle))
    known = "" if oracle is None else _value(oracle)
    floors = number(error / floor if floor else None)
    return [str(place["index"]), _value(actual), _value(eager), known, number(error), floors]


def _value(value: float) -> Html:
    return tag("span", f"{value:.9g}", class_="number")


def _non_finite(kinds: Sequence[Mapping[str, Any]]) -> Html:
    rows = [
        [
            kind["kind"],
            f"{kind['actual']:,}",
            f"{kind['eager']:,}",
            f"{kind['differ']:,}",
            ", ".join(map(str, kind["first"])),
        ]
        for kind in kinds
    ]
    header = ("value", "backend", "PyTorch", "places that differ", "the first of them")
    return table("What is no number", header, rows, wide=True)


def _histograms(told: Told) -> str:
    groups: dict[tuple[str, str], list[tuple[Mapping[str, Any], Verdict]]] = {}
    for backend, verdict in verdicts(told):
        if verdict["figures"]["histogram"] and verdict["kind"] != "edge":
            pair = (verdict["output"], backend["backend"])
            groups.setdefault(pair, []).append((backend, verdict))
    hot = sorted(groups.items(), key=lambda item: _heat(told, item[1]), reverse=True)
    if not hot:
        return ""
    key = tag(
        "p", tag("i", class_="of-actual"), "the backend ", tag("i", class_="of-eager"),
        "PyTorch in its own precision. Both against float64, over all samples but edge cases; "
        "across: the error in noise floors.",
        class_="key quiet",
    )  # fmt: skip  # as it reads
    figures = (
        tag(
            "figure",
            histogram([verdict for _, verdict in group]),
            tag("figcaption", tag("code", output), f" on {backend}"),
        )
        for (output, backend), group in hot[:_MOST_HISTOGRAMS]
    )
    left = len(hot) - _MOST_HISTOGRAMS
    more = f"The {_MOST_HISTOGRAMS} hottest; {left} more are as the map shows." if left > 0 else ""
    return section(
        "How large the errors are",
        key,
        tag("div", *figures, class_="histograms"),
        tag("p", more, class_="quiet") if more else "",
    )


def _heat(told: Told, group: Sequence[tuple[Mapping[str, Any], Verdict]]) -> tuple[bool, float]:
    backend, verdict = hottest(told, group)
    return verdict["status"] == "fail", share_of_limit(verdict, backend, told["thresholds"])


def _all(backends: Sequence[Mapping[str, Any]]) -> str:
    ran = [backend for backend in backends if backend["verdicts"]]
    return section("Every comparison", *map(every_comparison, ran)) if ran else ""


def _made_with(told: Told) -> Html:
    thresholds = told["thresholds"]
    own = [f"{name} {ratio:g}" for name, ratio in thresholds["outputs"].items()]
    narrow = dict.fromkeys(b["reduced"] for b in told["backends"] if b["reduced"])
    limits = [f"error at most {thresholds['max_ratio']:g} times the noise floor"]
    limits += [
        f"signal over noise at least {least_signal_db(precision, thresholds):g} dB in {precision}"
        for precision in narrow
    ]
    facts = [
        ("limit", "; ".join(limits)),
        ("by output", ", ".join(own)),
        ("constant", ", ".join(thresholds["constant_outputs"])),
        ("judge again", "edgeport verify --from FILE.json --max-ratio X"),
    ]
    return tag("footer", pairs(facts))
