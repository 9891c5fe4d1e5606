"""Charts as inline SVG: lines, points, bars and a grid of counts. No script, light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from edgeport.commands.html_page import Html, join, tag

_WIDTH: Final = 460
_HEIGHT: Final = 230
_LEFT: Final = 66
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 38


@dataclass(frozen=True, slots=True)
class Line:
    """A curve of a chart: its name, and a y for each x.

    Attributes:
        style: ``main``, ``second``, ``third`` or ``soft``: a colour and a dash of its own.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: str = "main"


@dataclass(frozen=True, slots=True)
class Axis:
    """The part of a number line that a chart shows, and how it is scaled."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], *, log: bool = False) -> "Axis":
        """The axis that shows these values, with a little room; logarithmic from 1e-12 up."""
        found = [v for v in values if math.isfinite(v) and (not log or v > 1e-12)] or [0.1, 1.0]
        low, high = min(found), max(found)
        if log:
            return cls(low / 1.2, high * 1.2, True)
        room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room)

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end."""
        if self.log:
            value = max(value, self.low)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Three to six round numbers."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            every = max(1, math.ceil(len(powers) / 6))
            found = [10.0**power for power in list(powers)[::every]]
            return found if len(found) > 1 else [self.low * 1.2, self.high / 1.2]
        span = self.high - self.low
        step = 10.0 ** math.floor(math.log10(span / 3))
        step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
        first = math.ceil(self.low / step)
        return [step * n for n in range(first, math.floor(self.high / step) + 1)]


def lines(
    title: str, curves: Sequence[Line], *, x: str, y: str, log: bool = False, zero: bool = False
) -> Html:
    """Curves over the same x, with a key beneath.

    Args:
        title: What is shown, for those who don't see it too.
        curves: One or more.
        x: Name of the axis.
        y: Of the other.
        log: A logarithmic y.
        zero: A line at y = 0.
    """
    across = Axis.around([v for curve in curves for v in curve.xs])
    up = Axis.around([v for curve in curves for v in curve.ys], log=log)
    drawn = [_curve(curve, across, up) for curve in curves]
    rule = [_rule(up, 0.0)] if zero and up.low < 0 < up.high else []
    key = [
        tag("span", tag("i", class_=f"swatch {curve.style}"), f" {curve.name}") for curve in curves
    ]
    return _figure(title, [_frame(across, up, x, y), *rule, *drawn], key)


def points(
    title: str,
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    x: str,
    y: str,
    rule: Literal["zero", "equal"],
) -> Html:
    """A cloud of points with a line at y = 0, or at y = x."""
    across, up = Axis.around(xs), Axis.around(ys)
    if rule == "equal":
        across = up = Axis.around([*xs, *ys])
        low, high = (_place(across, up, v, v) for v in (up.low, up.high))
        guide = tag("path", d=f"M{low[0]:.1f} {low[1]:.1f}L{high[0]:.1f} {high[1]:.1f}",
                    class_="guide")  # fmt: skip
    else:
        guide = _rule(up, 0.0)
    dots = []
    for a, b in zip(xs, ys, strict=True):
        left, top = _place(across, up, a, b)
        dots.append(tag("circle", cx=f"{left:.1f}", cy=f"{top:.1f}", r="2.4", class_="dot"))
    return _figure(title, [_frame(across, up, x, y), guide, *dots], [])


def histogram(title: str, values: Sequence[float], *, x: str, y: str, bins: int = 30) -> Html:
    """How many values lie where."""
    across = Axis.around(values)
    width = (across.high - across.low) / bins
    counts = [0] * bins
    for value in values:
        counts[min(int((value - across.low) / width), bins - 1)] += 1
    up = Axis(0.0, max(counts) * 1.05)
    bars = []
    for index, count in enumerate(counts):
        left, top = _place(across, up, across.low + index * width, count)
        right, bottom = _place(across, up, across.low + (index + 1) * width, 0.0)
        name = tag("title", f"{count} from {across.low + index * width:.4g}")
        bars.append(
            tag("rect", name, x=f"{left:.1f}", y=f"{top:.1f}", width=f"{right - left - 1:.1f}",
                height=f"{bottom - top:.1f}", class_="column")
        )  # fmt: skip  # a rectangle on two lines
    return _figure(title, [_frame(across, up, x, y), *bars], [])


def counts(title: str, names: Sequence[str], grid: Sequence[Sequence[int]]) -> Html:
    """A confusion matrix: rows are what is right, columns what was predicted."""
    most = max((c for row in grid for c in row), default=1) or 1
    head = [tag("th", "right ↓ predicted →", scope="col")]
    head += [tag("th", name, scope="col") for name in names]
    rows = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(
                tag(
                    "td",
                    str(count) if count else "",
                    class_="hit" if row == column else "miss" if count else None,
                    style=f"--share:{count / most:.3f}" if count else None,
                )
                for column, count in enumerate(grid[row])
            ),
        )
        for row, name in enumerate(names)
    ]
    table = tag(
        "table", tag("caption", title), tag("thead", tag("tr", *head)), tag("tbody", *rows),
        class_="confusion",
    )  # fmt: skip
    return tag("div", table, class_="scroll")


def _figure(title: str, parts: Sequence[Html], key: Sequence[Html]) -> Html:
    chart = tag(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=title,
        class_="chart",
    )  # fmt: skip
    caption = tag("figcaption", title, *([tag("span", *key, class_="keys")] if key else []))
    return tag("figure", caption, chart)


def _place(across: Axis, up: Axis, x: float, y: float) -> tuple[float, float]:
    left = _LEFT + across.share(x) * (_WIDTH - _LEFT - _RIGHT)
    return left, _HEIGHT - _BOTTOM - up.share(y) * (_HEIGHT - _TOP - _BOTTOM)


def _curve(curve: Line, across: Axis, up: Axis) -> Html:
    places = [
        _place(across, up, x, y)
        for x, y in zip(curve.xs, curve.ys, strict=True)
        if math.isfinite(y)
    ]
    if len(places) == 1:
        ((left, top),) = places
        return tag("circle", cx=f"{left:.1f}", cy=f"{top:.1f}", r="3", class_=f"dot {curve.style}")
    path = "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in places)
    return tag("path", tag("title", curve.name), d=path, class_=f"curve {curve.style}")


def _rule(up: Axis, y: float) -> Html:
    top = _HEIGHT - _BOTTOM - up.share(y) * (_HEIGHT - _TOP - _BOTTOM)
    return tag("path", d=f"M{_LEFT} {top:.1f}H{_WIDTH - _RIGHT}", class_="guide")


def _frame(across: Axis, up: Axis, x: str, y: str) -> Html:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    for value in up.ticks():
        _, top = _place(across, up, across.low, value)
        parts.append(tag("path", d=f"M{_LEFT} {top:.1f}H{_WIDTH - _RIGHT}", class_="axis"))
        parts.append(
            tag("text", short(value), x=str(_LEFT - 6), y=f"{top + 3.5:.1f}", text_anchor="end")
        )
    for value in across.ticks():
        left, _ = _place(across, up, value, up.low)
        parts.append(
            tag("text", short(value), x=f"{left:.1f}", y=str(bottom + 15), text_anchor="middle")
        )
    parts.append(tag("path", d=f"M{_LEFT} {bottom}H{_WIDTH - _RIGHT}", class_="axis strong"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        tag("text", x, x=f"{middle:.0f}", y=str(_HEIGHT - 6), text_anchor="middle", class_="name")
    )
    half = (_TOP + bottom) / 2
    parts.append(
        tag("text", y, x="10", y=f"{half:.0f}", text_anchor="middle", class_="name",
            transform=f"rotate(-90 10 {half:.0f})")
    )  # fmt: skip
    return join(parts)


def short(value: float) -> str:
    """A number in few characters.

    Examples:
        >>> short(0.25), short(12000.0), short(1e-7)
        ('0.25', '12k', '1e-07')
    """
    if abs(value) < 1e-12:
        return "0"
    if 1e3 <= abs(value) < 1e4:
        return f"{value:.0f}"
    if 1e4 <= abs(value) < 1e7 and round(value / 1000, 6) == round(value / 1000):
        return f"{value / 1000:g}k"
    return f"{value:.3g}"
