"""Charts with a row per name, beside it a drawing on an axis that all share, and its figures.

The names and figures are text of the page, so they wrap on a phone and can be copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgeport.commands.charts import Axis
from edgeport.commands.html_page import Html, join, tag

_WIDTH: Final = 460
_HEIGHT: Final = 22
_MARGIN: Final = 20
_AXIS_HEIGHT: Final = 20


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its interval: a row of a forest.

    Attributes:
        low, high: The ends; ``None`` if they are not known.
        text: The figures in words.
        kind: A class of the page that colours it.
        margin: Within 1 / (1 + margin) and 1 + margin it makes no difference.
        noise: Within 1 / noise and noise it may be chance; at least 1.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    text: str
    kind: str = "main"
    margin: float | None = None
    noise: float | None = None


def ratio_axis(rows: Sequence[Ratio]) -> Axis:
    """A logarithmic axis that shows them all, their intervals and bands, and 1."""
    ends = [end for row in rows for end in (row.value, row.low, row.high) if end]
    bands = [1 + row.margin for row in rows if row.margin]
    bands += [row.noise for row in rows if row.noise]
    return Axis.around([1.0, *ends, *bands, *(1 / band for band in bands)], log=True)


def forest(title: str, rows: Sequence[Ratio], axis: Axis) -> Html:
    """Ratios below one another, with a line at 1.

    Args:
        title: What is shown.
        rows: A ratio each.
        axis: Of ``ratio_axis``; forests that share one can be compared.
    """
    drawn = [_row(row.name, _ratio(row, axis), row.text) for row in rows]
    return _figure(title, [*drawn, _row("", _ticks(axis), "")])


@dataclass(frozen=True, slots=True)
class Stack:
    """Parts that follow one another: a row of bars.

    Attributes:
        parts: In the order of their names.
        marks: Single values to show beside it.
        text: The figures in words.
    """

    name: str
    parts: Sequence[float]
    marks: Sequence[float]
    text: str


def stacks(title: str, names: Sequence[tuple[str, str]], rows: Sequence[Stack], unit: str) -> Html:
    """Bars of several parts on an axis that begins at 0.

    Args:
        title: What is shown.
        names: Of the parts, and the style of each.
        rows: A bar each.
        unit: Of the axis; it ends the title.
    """
    most = max((end for row in rows for end in (sum(row.parts), *row.marks)), default=0) or 1.0
    axis = Axis(0.0, most * 1.03)
    key = [tag("span", tag("i", class_=f"patch {style}"), f" {name}") for name, style in names]
    drawn = [_row(row.name, _stack(row, names, axis), row.text) for row in rows]
    return _figure(f"{title}, {unit}", [*drawn, _row("", _ticks(axis), "")], key)


def _figure(title: str, rows: Sequence[Html], key: Sequence[Html] = ()) -> Html:
    keys = [tag("span", *key, class_="keys")] if key else []
    caption = tag("figcaption", title, *keys)
    return tag("figure", caption, tag("div", *rows, class_="rows"))


def _row(name: str, drawing: Html, text: str) -> Html:
    return tag("div", tag("b", name), drawing, tag("span", text), class_="row")


def _x(axis: Axis, value: float) -> float:
    return _MARGIN + min(max(axis.share(value), 0.0), 1.0) * (_WIDTH - 2 * _MARGIN)


def _svg(height: int, label: str | None, *parts: Html) -> Html:
    return tag("svg", *parts, viewBox=f"0 0 {_WIDTH} {height}", role="img" if label else None,
               aria_label=label, aria_hidden=None if label else "true")  # fmt: skip


def _ratio(row: Ratio, axis: Axis) -> Html:
    parts = []
    if row.margin:
        parts.append(_band(axis, 1 + row.margin, "margin", 0))
    if row.noise:
        parts.append(_band(axis, row.noise, "noise", 4))
    one, middle = _x(axis, 1.0), _HEIGHT / 2
    parts.append(tag("path", d=f"M{one:.1f} 0V{_HEIGHT}", class_="guide"))
    x = _x(axis, row.value)
    if row.low is not None and row.high is not None:
        low, high = _x(axis, row.low), _x(axis, row.high)
        whisker = f"M{low:.1f} {middle - 4:g}v8M{high:.1f} {middle - 4:g}v8"
        whisker += f"M{low:.1f} {middle:g}H{high:.1f}"
        parts.append(tag("path", d=whisker, class_=f"whisker {row.kind}"))
    diamond = f"M{x - 5:.1f} {middle:g}l5-5 5 5-5 5z"
    parts.append(tag("path", d=diamond, class_=f"diamond {row.kind}"))
    return _svg(_HEIGHT, f"{row.name}: {row.text}", *parts)


def _band(axis: Axis, factor: float, kind: str, inset: int) -> Html:
    left, right = _x(axis, 1 / factor), _x(axis, factor)
    return tag("rect", x=f"{left:.1f}", y=str(inset), width=f"{right - left:.1f}",
               height=str(_HEIGHT - 2 * inset), class_=f"band {kind}")  # fmt: skip


def _stack(row: Stack, names: Sequence[tuple[str, str]], axis: Axis) -> Html:
    parts, start = [], 0.0
    for (name, style), value in zip(names, row.parts, strict=True):
        left, right = _x(axis, start), _x(axis, start + value)
        start += value
        parts.append(
            tag("rect", tag("title", f"{name}: {value:.3g}"), x=f"{left:.1f}", y="4",
                width=f"{right - left:.2f}", height=str(_HEIGHT - 8), class_=f"dot {style}")
        )  # fmt: skip
    for mark in row.marks:
        x = _x(axis, mark)
        parts.append(tag("path", d=f"M{x:.1f} 1V{_HEIGHT - 1}", class_="tick"))
    return _svg(_HEIGHT, f"{row.name}: {row.text}", *parts)


def _ticks(axis: Axis) -> Html:
    parts = [tag("path", d=f"M{_MARGIN} .5H{_WIDTH - _MARGIN}", class_="axis strong")]
    for value, name in axis.named_ticks():
        x = f"{_x(axis, value):.1f}"
        parts.append(tag("path", d=f"M{x} 0v4", class_="axis strong"))
        parts.append(tag("text", name, x=x, y="16", text_anchor="middle"))
    return _svg(_AXIS_HEIGHT, None, join(parts))
