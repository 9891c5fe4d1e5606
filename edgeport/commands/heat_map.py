"""Every comparison as one cell: outputs and backends down, samples across, the ratio as colour."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from edgeport.commands.html_page import Html, join, tag
from edgeport.commands.proof_tables import Verdict, ratio_of, share_of_limit

_LABEL: Final = 190
_ROW: Final = 17
_TITLE: Final = 24
_MOST_NAMES: Final = 40
_CHARACTERS: Final = 24
_SHARES: Final = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)

_KINDS: Final = {"real": "real", "random": "drawn", "edge": "edge cases", "search": "looked for"}

Rows: TypeAlias = Mapping[str, Mapping[str, Verdict]]
"""By output, then by sample."""


def heat_map(backends: Sequence[Mapping[str, Any]], thresholds: Mapping[str, Any]) -> Html:
    """The map, with its key; nothing if no backend ran.

    Args:
        backends: As ``BackendReport.to_json`` writes them.
        thresholds: As ``Thresholds.to_json`` writes them.
    """
    ran = [backend for backend in backends if backend["verdicts"]]
    if not ran:
        return Html()
    kinds = {v["sample"]: v["kind"] for backend in ran for v in backend["verdicts"]}
    samples = sorted(kinds, key=lambda name: list(_KINDS).index(kinds[name]))  # stable
    step = max(7.0, min(56.0, 800 / len(samples)))
    head = _column_names(samples, step) if len(samples) <= _MOST_NAMES else Html()
    y = 26 + (18 + 5 * max(map(len, map(_short, samples))) if head else 0)
    parts = [tag("g", _kinds(samples, kinds, step), head, transform=f"translate(0 {y - 8})")]
    for backend in ran:
        parts.append(_title(backend, y))
        y += _TITLE
        for output, verdicts in _by_output(backend).items():
            parts.append(_row(backend, output, verdicts, samples, thresholds, step, y))
            y += _ROW
        y += 6
    width = _LABEL + step * len(samples) + (70 if head else 10)  # the last name leans out
    wrong = sum(v["status"] == "fail" for backend in ran for v in backend["verdicts"])
    count = sum(len(backend["verdicts"]) for backend in ran)
    svg = tag(
        "svg", *parts, viewBox=f"0 0 {width:.0f} {y}", width=f"{width:.0f}", height=str(y),
        role="img", aria_label=f"{count} comparisons, {wrong} of them failed", class_="heat",
    )  # fmt: skip  # as it reads
    return join([tag("div", svg, class_="scroll", tabindex="0"), _key(thresholds)])


def _by_output(backend: Mapping[str, Any]) -> Rows:
    rows: dict[str, dict[str, Verdict]] = {}
    for verdict in backend["verdicts"]:
        rows.setdefault(verdict["output"], {})[verdict["sample"]] = verdict
    return rows


def _column_names(samples: Sequence[str], step: float) -> Html:
    names = (
        tag(
            "text", _short(name), x="0", y="0",
            transform=f"translate({_LABEL + step * (i + 0.62):.1f} -20) rotate(-55)",
        )
        for i, name in enumerate(samples)
    )  # fmt: skip  # as it reads
    return join(names)


def _kinds(samples: Sequence[str], kinds: Mapping[str, str], step: float) -> Html:
    """A bracket over the columns of one kind."""
    parts = []
    for kind, name in _KINDS.items():
        places = [i for i, sample in enumerate(samples) if kinds[sample] == kind]
        if places:
            left, right = _LABEL + step * places[0], _LABEL + step * (places[-1] + 1) - 2
            bracket = tag("path", d=f"M{left:.1f} 0H{right:.1f}", class_=f"kind {kind}")
            told = f"{len(places)} {name}" if right - left > 60 else ""
            parts += [bracket, tag("text", told, x=f"{left:.1f}", y="-5", class_="kind-name")]
    return join(parts)


def _title(backend: Mapping[str, Any], y: int) -> Html:
    sign = {"pass": "✓", "fail": "✗"}.get(backend["outcome"], "?")
    text = f"{sign} {backend['backend']}"
    return tag("text", text, x="0", y=f"{y + 17}", class_=f"title {backend['outcome']}")


def _row(
    backend: Mapping[str, Any],
    output: str,
    verdicts: Mapping[str, Verdict],
    samples: Sequence[str],
    thresholds: Mapping[str, Any],
    step: float,
    y: int,
) -> Html:
    label = tag(
        "text", _short(output), tag("title", output), x=f"{_LABEL - 8}", y=f"{y + 12}",
        text_anchor="end",
    )  # fmt: skip  # as it reads
    cells = (
        _cell(backend, verdicts[sample], thresholds, _LABEL + step * i, step, y)
        for i, sample in enumerate(samples)
        if sample in verdicts
    )
    return join([label, *cells])


def _cell(
    backend: Mapping[str, Any],
    verdict: Verdict,
    thresholds: Mapping[str, Any],
    x: float,
    step: float,
    y: int,
) -> Html:
    told = f"{backend['backend']}, {verdict['output']}, {verdict['sample']}: {verdict['reason']}"
    level = level_of(verdict, backend, thresholds)
    square = tag(
        "rect", tag("title", told), x=f"{x:.1f}", y=f"{y}", width=f"{step - 1.5:.1f}",
        height=f"{_ROW - 2}", class_=level,
    )  # fmt: skip  # as it reads
    if level != "wrong":
        return square
    middle, high, size = x + (step - 1.5) / 2, y + (_ROW - 2) / 2, min(3.5, step / 3)
    cross = f"M{middle - size:.1f} {high - size:.1f}l{2 * size:.1f} {2 * size:.1f}m0-{2 * size:.1f}"
    return join([square, tag("path", d=f"{cross}l-{2 * size:.1f} {2 * size:.1f}", class_="cross")])


def level_of(verdict: Verdict, backend: Mapping[str, Any], thresholds: Mapping[str, Any]) -> str:
    """The class of a cell: ``wrong``, ``equal``, ``l0`` to ``l4`` by share of the limit, ``over``.

    ``over`` passed beyond the limit: an edge case may.
    """
    if verdict["status"] == "fail":
        return "wrong"
    if verdict["figures"]["rule"] == "exact" or ratio_of(verdict) == 0:
        return "equal"
    share = share_of_limit(verdict, backend, thresholds)
    return next((f"l{i}" for i, most in enumerate(_SHARES) if share <= most), "over")


def _key(thresholds: Mapping[str, Any]) -> Html:
    limit = thresholds["max_ratio"]
    steps = [(f"l{i}", f"{limit * share:.2g}") for i, share in enumerate(_SHARES)]
    first, last = ("equal", "equal"), ("over", "beyond, on an edge case")
    squares = _squares([first, *steps, last, ("wrong", "wrong")])
    return tag("p", "Ratio up to: ", *squares, class_="heat-key quiet")


def _squares(steps: Sequence[tuple[str, str]]) -> Iterator[Html]:
    for level, name in steps:
        rect = tag("rect", width="14", height="14", class_=level)
        cross = tag("path", d="M4 4l6 6m0-6l-6 6", class_="cross") if level == "wrong" else ""
        square = tag("svg", rect, cross, viewBox="0 0 14 14", class_="square", aria_hidden="true")
        yield tag("span", square, f" {name}")


def _short(name: str) -> str:
    return name if len(name) <= _CHARACTERS else f"{name[: _CHARACTERS - 1]}…"
