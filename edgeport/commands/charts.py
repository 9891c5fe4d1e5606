"""Charts as inline SVG: lines, points, strips, bars and counts. No script, light and dark."""

import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from edgeport.commands.html_page import Html, join, tag

_WIDTH: Final = 460
_HEIGHT: Final = 230
_STRIP_HEIGHT: Final = 118
_LEFT: Final = 66
_RIGHT: Final = 12
_TOP: Final = 12
_BOTTOM: Final = 38
_BINS: Final = 30  # of a histogram

STYLES: Final = ("main", "second", "third", "soft", "fifth", "sixth", "seventh", "eighth")
"""Each has a colour and a dash of its own, because not everybody sees colours."""


@dataclass(frozen=True, slots=True)
class Line:
    """A curve of a chart: its name, and a y for each x.

    Attributes:
        style: One of ``STYLES``.
        dotted: A dot at every point too.
        spans: The interval around each y; ``None`` for a point without one.
    """

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: str = "main"
    dotted: bool = False
    spans: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True, slots=True)
class Axis:
    """The part of a number line that a chart shows, and how it is scaled.

    Attributes:
        names: Values and what is written there, instead of round numbers.
        whole: Ticks are whole numbers alone, as of epochs.
    """

    low: float
    high: float
    log: bool = False
    names: tuple[tuple[float, str], ...] = ()
    whole: bool = False

    @classmethod
    def around(cls, values: Iterable[float], *, log: bool = False) -> "Axis":
        """The axis that shows these values, with a little room; logarithmic from 1e-12 up."""
        found = [v for v in values if math.isfinite(v) and (not log or v > 1e-12)] or [0.1, 1.0]
        low, high = min(found), max(found)
        if log:
            room = min(1.2, max(1.02, (high / low) ** 0.06))
            return cls(low / room, min(high * room, sys.float_info.max), True)
        room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        return cls(low - room, high + room)

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high end."""
        if self.log:
            value = max(value, self.low)
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Two to seven round numbers."""
        if not self.log:
            return self._even_ticks()
        powers = range(math.floor(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
        for parts in ((1,), (1, 3), (1, 2, 5)):
            found = [m * 10.0**power for power in powers for m in parts]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) >= 3:
                return found[:: math.ceil(len(found) / 6)]
        return self._even_ticks()

    def _even_ticks(self) -> list[float]:
        span = self.high - self.low
        step = 10.0 ** math.floor(math.log10(span / 3))
        step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 6)
        step = max(step, 1.0) if self.whole else step
        first = math.ceil(self.low / step)
        return [step * n for n in range(first, math.floor(self.high / step) + 1)]

    def named_ticks(self) -> list[tuple[float, str]]:
        """Values, and what is written there."""
        if self.names:
            return [(value, name) for value, name in self.names if self.low <= value <= self.high]
        values = self.ticks()
        names = [short(value) for value in values]
        for digits in range(4, 17):  # as few as tell them apart
            if len(set(names)) == len(names):
                break
            names = [f"{value:.{digits}g}" for value in values]
        return list(zip(values, names, strict=True))


def lines(
    title: str,
    curves: Sequence[Line],
    *,
    x: str,
    y: str,
    log: bool = False,
    across: Axis | None = None,
    up: Axis | None = None,
    level: tuple[float, str] | None = None,
) -> Html:
    """Curves over the same x, with a key above.

    Args:
        title: What is shown, for those who don't see it too.
        curves: One or more.
        x: Name of the axis.
        y: Of the other.
        log: A logarithmic y.
        across: The axis of x; the one that shows every x if it is left out.
        up: The axis of y; likewise.
        level: A y with a line and a name.
    """
    ends = [end for curve in curves for span in curve.spans if span for end in span]
    levels = [level[0]] if level else []
    xs = [v for curve in curves for v in curve.xs]
    whole = all(float(v).is_integer() for v in xs)
    plot = _Plot(
        across or replace(Axis.around(xs), whole=whole),
        up or Axis.around([*(v for c in curves for v in c.ys), *ends, *levels], log=log),
    )
    drawn = [part for curve in curves for part in _curve(curve, plot)]
    if level:
        drawn = [plot.rule(level[0]), *drawn, plot.rule_name(*level)]
    key = [join([swatch(curve.style), f" {curve.name}"]) for curve in curves]
    return plot.figure(title, [plot.frame(x, y), *drawn], key)


def swatch(style: str) -> Html:
    """A short piece of a line, for a key."""
    line = tag("path", d="M1 5H31", class_=f"curve {style}")
    return tag("svg", line, viewBox="0 0 32 10", class_="swatch", aria_hidden="true")


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
    plot = _Plot(Axis.around(xs), Axis.around([*ys, 0.0]))
    if rule == "equal":
        both = Axis.around([*xs, *ys])
        plot = _Plot(both, both)
        low, high = (plot.place(v, v) for v in (both.low, both.high))
        guide = tag("path", d=f"M{low[0]:.1f} {low[1]:.1f}L{high[0]:.1f} {high[1]:.1f}",
                    class_="guide")  # fmt: skip
    else:
        guide = plot.rule(0.0)
    dots = [_dot(plot.place(a, b), "dot", 2.4) for a, b in zip(xs, ys, strict=True)]
    return plot.figure(title, [plot.frame(x, y), guide, *dots], [])


@dataclass(frozen=True, slots=True)
class Moment:
    """A value of a strip.

    Attributes:
        text: Shown where somebody points at it.
        odd: Drawn in another colour and shape.
    """

    value: float
    text: str
    odd: bool = False


def strip(
    title: str, groups: Sequence[Sequence[Moment]], *, x: str, y: str, level: float, log: bool
) -> Html:
    """Values in the order in which they came, in groups that have a number each.

    Args:
        title: What is shown.
        groups: Beside one another.
        x: What a group is.
        y: Name of the axis.
        level: A y with a line.
        log: A logarithmic y.
    """
    starts = list(itertools.accumulate((len(group) for group in groups), initial=0))
    middles = [(a + b - 1) / 2 for a, b in itertools.pairwise(starts)]
    names = tuple((middle, f"{n}") for n, middle in enumerate(middles, 1))
    across = Axis(-0.7, max(starts[-1], 1) - 0.3, names=names)
    values = [moment.value for group in groups for moment in group]
    plot = _Plot(across, Axis.around([*values, level], log=log), _STRIP_HEIGHT)
    borders = [plot.border(start - 0.5) for start in starts[1:-1]]
    marks = [
        _moment(plot.place(start + i, moment.value), moment)
        for start, group in zip(starts, groups, strict=False)
        for i, moment in enumerate(group)
    ]
    return plot.figure(title, [plot.frame(x, y), *borders, plot.rule(level), *marks], [])


def _moment(place: tuple[float, float], moment: Moment) -> Html:
    left, top = place
    name = tag("title", moment.text)
    if not moment.odd:
        return tag("circle", name, cx=f"{left:.1f}", cy=f"{top:.1f}", r="2.4", class_="dot")
    cross = f"M{left - 3:.1f} {top - 3:.1f}l6 6m0-6l-6 6"
    return tag("path", name, d=cross, class_="odd")


def histogram(title: str, values: Sequence[float], *, x: str, y: str) -> Html:
    """How many values lie where."""
    across = Axis.around(values)
    width = (across.high - across.low) / _BINS
    counts = [0] * _BINS
    for value in values:
        counts[min(int((value - across.low) / width), _BINS - 1)] += 1
    up = Axis(0.0, max(counts) * 1.05)
    whole = [(tick, short(tick)) for tick in up.ticks() if tick.is_integer()]
    plot = _Plot(across, replace(up, names=tuple(whole)))
    bars = []
    for index, count in enumerate(counts):
        left, top = plot.place(across.low + index * width, count)
        right, bottom = plot.place(across.low + (index + 1) * width, 0.0)
        name = tag("title", f"{count} from {across.low + index * width:.4g}")
        bars.append(
            tag("rect", name, x=f"{left:.1f}", y=f"{top:.1f}", width=f"{right - left - 1:.1f}",
                height=f"{bottom - top:.1f}", class_="column")
        )  # fmt: skip  # a rectangle on two lines
    return plot.figure(title, [plot.frame(x, y), *bars], [])


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


@dataclass(frozen=True, slots=True)
class _Plot:
    """The rectangle between two axes, in the units of its SVG."""

    across: Axis
    up: Axis
    height: int = _HEIGHT

    def figure(self, title: str, parts: Sequence[Html], key: Sequence[Html]) -> Html:
        chart = tag(
            "svg", *parts, viewBox=f"0 0 {_WIDTH} {self.height}", role="img", aria_label=title,
            class_="chart",
        )  # fmt: skip
        keys = [tag("span", *(tag("span", each) for each in key), class_="keys")] if key else []
        return tag("figure", tag("figcaption", title, *keys), chart)

    def place(self, x: float, y: float) -> tuple[float, float]:
        left = _LEFT + self.across.share(x) * (_WIDTH - _LEFT - _RIGHT)
        return left, self._top(y)

    def _top(self, y: float) -> float:
        return self.height - _BOTTOM - self.up.share(y) * (self.height - _TOP - _BOTTOM)

    def rule(self, y: float) -> Html:
        return tag("path", d=f"M{_LEFT} {self._top(y):.1f}H{_WIDTH - _RIGHT}", class_="guide")

    def rule_name(self, y: float, name: str) -> Html:
        top = self._top(y)
        below = top < _TOP + 12
        return tag("text", name, x=str(_WIDTH - _RIGHT), y=f"{top + (12 if below else -4):.1f}",
                   text_anchor="end", class_="name halo")  # fmt: skip

    def border(self, x: float) -> Html:
        left, _ = self.place(x, self.up.low)
        return tag("path", d=f"M{left:.1f} {_TOP}V{self.height - _BOTTOM}", class_="axis strong")

    def frame(self, x: str, y: str) -> Html:
        bottom = self.height - _BOTTOM
        parts = []
        for value, name in self.up.named_ticks():
            top = self._top(value)
            parts.append(tag("path", d=f"M{_LEFT} {top:.1f}H{_WIDTH - _RIGHT}", class_="axis"))
            parts.append(
                tag("text", name, x=str(_LEFT - 6), y=f"{top + 3.5:.1f}", text_anchor="end")
            )
        for value, name in self.across.named_ticks():
            left, _ = self.place(value, self.up.low)
            parts.append(
                tag("text", name, x=f"{left:.1f}", y=str(bottom + 15), text_anchor="middle")
            )
        parts.append(tag("path", d=f"M{_LEFT} {bottom}H{_WIDTH - _RIGHT}", class_="axis strong"))
        middle, half = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + bottom) / 2
        parts.append(
            tag("text", x, x=f"{middle:.0f}", y=str(self.height - 6), text_anchor="middle",
                class_="name")
        )  # fmt: skip
        parts.append(
            tag("text", y, x="10", y=f"{half:.0f}", text_anchor="middle", class_="name",
                transform=f"rotate(-90 10 {half:.0f})")
        )  # fmt: skip
        return join(parts)


def _curve(curve: Line, plot: _Plot) -> list[Html]:
    places = [plot.place(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(y)]
    parts = [
        _span(plot.place(x, span[0]), plot.place(x, span[1]), curve.style)
        for x, span in zip(curve.xs, curve.spans, strict=False)
        if span
    ]
    if len(places) > 1:
        path = "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in places)
        parts.append(tag("path", tag("title", curve.name), d=path, class_=f"curve {curve.style}"))
    if curve.dotted or len(places) == 1:
        parts += [_dot(place, f"dot {curve.style}", 3) for place in places]
    return parts


def _dot(place: tuple[float, float], class_: str, radius: float) -> Html:
    left, top = place
    return tag("circle", cx=f"{left:.1f}", cy=f"{top:.1f}", r=f"{radius:g}", class_=class_)


def _span(low: tuple[float, float], high: tuple[float, float], style: str) -> Html:
    path = f"M{low[0]:.1f} {low[1]:.1f}V{high[1]:.1f}"
    return tag("path", d=path, class_=f"span {style}")


def short(value: float) -> str:
    """A number in few characters.

    Examples:
        >>> short(0.25), short(12000.0), short(2e6), short(1e-7)
        ('0.25', '12k', '2M', '1e-07')
    """
    if abs(value) < 1e-12:
        return "0"
    if 1e3 <= abs(value) < 1e4:
        return f"{value:.0f}"
    for factor, letter in ((1e6, "M"), (1e3, "k")):
        if factor <= abs(value) < 1e4 * factor and round(value / factor, 6) == round(
            value / factor
        ):
            return f"{value / factor:g}{letter}"
    return f"{value:.3g}"
