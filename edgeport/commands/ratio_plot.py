"""Every sample's ratio as a mark on one line: where a backend lies, and how far the bar is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edgeport.commands.html_page import Html, join, tag

_WIDTH: Final = 280
_MARGIN: Final = 12
_MIDDLE: Final = 19
_BOTTOM: Final = 32
_HEIGHT: Final = 44


@dataclass(frozen=True, slots=True)
class Point:
    """The ratio of one sample, and whether it passed: a bar may be higher for an edge case."""

    sample: str
    ratio: float
    passed: bool


@dataclass(frozen=True, slots=True)
class RatioPlot:
    """A logarithmic axis that the strips of a page share, so that they can be compared.

    Attributes:
        bar: The largest ratio that passes.
        low, high: The ends: 10 to that power.
    """

    bar: float
    low: float
    high: float

    @classmethod
    def around(cls, ratios: Sequence[float], bar: float) -> "RatioPlot":
        """The axis that shows these ratios, from a hundredth up to what a bar can be."""
        logs = [math.log10(r) for r in (*ratios, bar, 0.1, 1) if 0 < r < math.inf]
        return cls(bar, max(-2, math.floor(min(logs))), min(9, max(logs)) + 0.4)

    def draw(self, points: Sequence[Point]) -> Html:
        """A strip of ratios: a dot for a sample that passed, a cross for one that failed.

        A ratio of 0 lies at the left end, an infinite one at the right end.
        """
        ratios = [point.ratio for point in points]
        label = (
            f"{len(points)} samples with ratios from {min(ratios):.3g} to {max(ratios):.3g}; "
            f"{self.bar:g} is allowed"
        )
        limit = self._x(self.bar)
        return tag(
            "svg",
            tag("rect", x=f"{limit:.1f}", y="8", width=f"{_WIDTH - limit:.1f}",
                height=str(_BOTTOM - 8), class_="beyond"),
            *(self._tick(power) for power in self._powers()),
            _line(limit, 8, limit, _BOTTOM, "limit"),
            tag("text", f"limit {self.bar:g}", x=f"{limit + 3:.1f}", y="7", class_="limit-name"),
            *(self._mark(index, point) for index, point in enumerate(points)),
            viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
            role="img",
            aria_label=label,
        )  # fmt: skip  # a rectangle on two lines

    def _x(self, ratio: float) -> float:
        power = self.low if ratio <= 0 else self.high if math.isinf(ratio) else math.log10(ratio)
        share = (min(max(power, self.low), self.high) - self.low) / (self.high - self.low)
        return _MARGIN + share * (_WIDTH - 2 * _MARGIN)

    def _powers(self) -> range:
        """Those that have a tick: at most seven, or their names run into each other."""
        step = math.ceil((self.high - self.low) / 7)
        return range(math.ceil(self.low / step) * step, int(self.high) + 1, step)

    def _tick(self, power: int) -> Html:
        x = self._x(10.0**power)
        name = f"{10.0**power:g}" if power < 4 else f"1e{power}"
        text = tag("text", name, x=f"{x:.1f}", y="42", text_anchor="middle")
        return join([_line(x, 10, x, _BOTTOM, "axis"), text])

    def _mark(self, index: int, point: Point) -> Html:
        x = self._x(point.ratio)
        y = _MIDDLE + (index * 7 % 5 - 2) * 3.5  # one below the other, or they hide each other
        name = tag("title", f"{point.sample}: {point.ratio:.3g}")
        if point.passed:
            return tag("circle", name, cx=f"{x:.1f}", cy=f"{y:.1f}", r="2.6", class_="in")
        cross = f"M{x - 3:.1f} {y - 3:.1f}l6 6m0-6l-6 6"
        return tag("path", name, d=cross, class_="out")


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:g}", x2=f"{x2:.1f}", y2=f"{y2:g}", class_=class_)
