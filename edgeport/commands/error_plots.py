"""How large the errors are: a backend's beside PyTorch's own, and from layer to layer."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from edgeport.commands.html_page import Html, join, tag
from edgeport.commands.proof_tables import Verdict

_WIDTH: Final = 300
_HEIGHT: Final = 96
_BASE: Final = 80
_SMALLEST: Final = -10
_MOST_LARGE: Final = 30

_WALK: Final = (1000, 300)
_LEFT: Final = 64
_RIGHT: Final = 14
_TOP: Final = 24
_BOTTOM: Final = 268


def histogram(verdicts: Sequence[Verdict]) -> Html:
    """Errors of one output on one backend, in noise floors; nothing if none was measured.

    Args:
        verdicts: Of every sample; each is counted in units of its own floor.
    """
    actual, eager = Counter[int](), Counter[int]()
    for verdict in verdicts:
        mine, theirs = _binned(verdict["figures"])
        actual.update(mine)
        eager.update(theirs)
    if not actual:
        return Html()
    first, last = _SMALLEST, max(4, *(+actual), *(+eager))
    wide = _WIDTH / (last + 1 - first)
    bad = " bad" if any(verdict["status"] == "fail" for verdict in verdicts) else ""
    floor = (0 - first) * wide
    return tag(
        "svg",
        tag("path", d=f"{_steps(eager, first, last, wide)}Z", class_="eager"),
        tag("path", d=f"M{floor:.1f} 6V{_BASE}", class_="floor"),
        tag("path", d=_steps(actual, first, last, wide), class_=f"actual{bad}"),
        tag("path", d=f"M0 {_BASE}H{_WIDTH}", class_="axis"),
        *_floors(first, last, wide),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"errors of {sum(actual.values())} elements, in noise floors",
        class_="histogram",
    )


def _binned(figures: Mapping[str, Any]) -> tuple[Counter[int], Counter[int]]:
    """Counts of the backend's and of eager's errors; key n: between 2^n and 2^(n + 1) floors."""
    bins, floor = figures["histogram"], figures["floor_rms"]
    if bins is None or not floor:
        return Counter(), Counter()
    top = bins["top"] - 1 - round(math.log2(floor))
    mine, theirs = Counter[int](), Counter[int]()
    for place, (a, e) in enumerate(zip(bins["actual"], bins["eager"], strict=True)):
        power = min(max(top - place, _SMALLEST), _MOST_LARGE)
        mine[power] += a
        theirs[power] += e
    return mine, theirs


def _steps(counts: Counter[int], first: int, last: int, wide: float) -> str:
    """The outline of a histogram that is as high as the plot."""
    most = max(counts.values(), default=1)
    path = f"M0 {_BASE}"
    for place, power in enumerate(range(first, last + 1)):
        y = _BASE - (_BASE - 8) * counts[power] / most
        path += f"V{y:.1f}H{(place + 1) * wide:.1f}"
    return f"{path}V{_BASE}"


def _floors(first: int, last: int, wide: float) -> Iterable[Html]:
    """A name at powers of ten, in floors; not so many that they run into each other."""
    powers = range(math.ceil(first * math.log10(2)) + 1, math.floor((last + 1) * math.log10(2)) + 1)
    every = max(1, math.ceil(len(powers) / 6))
    for power in powers:
        if power % every == 0:
            x = (power / math.log10(2) - first) * wide
            name = f"{10.0**power:g}" if power < 4 else f"1e{power}"
            yield tag("text", name, x=f"{x:.1f}", y="93", text_anchor="middle")


def walk_plot(walk: Sequence[Mapping[str, Any]], limit: float) -> Html:
    """Floor and error of every value on the way from the inputs to the outputs.

    Args:
        walk: In order, each with ``name``, ``depth`` (from 0), ``floor``, ``error`` and ``ratio``;
            ``None`` for an infinite one.
        limit: The ratio that the first diverging value is beyond.
    """
    points = sorted(walk, key=lambda step: step["depth"])
    sizes = [s[key] for s in points for key in ("floor", "error") if s[key]]
    if not sizes:
        return Html()
    low, high = math.floor(math.log10(min(sizes))), math.ceil(math.log10(max(sizes)))
    axes = _Axes(points[0]["depth"], points[-1]["depth"], low, max(high, low + 1))
    first = next((s for s in points if _beyond(s["ratio"], limit)), None)
    return tag(
        "svg",
        *axes.grid(),
        tag("path", d=axes.line(points, "floor"), class_="floor-line"),
        tag("path", d=axes.line(points, "error"), class_="error-line"),
        *(axes.dot(step, limit) for step in points),
        axes.flag(first) if first else "",
        tag("text", "depth →", x=f"{_WALK[0] - _RIGHT}", y=f"{_BOTTOM + 22}", text_anchor="end"),
        viewBox=f"0 0 {_WALK[0]} {_WALK[1]}",
        role="img",
        aria_label=f"{len(points)} values; "
        + (f"the first to diverge is {first['name']}" if first else "none diverges"),
        class_="walk",
    )


def _beyond(ratio: float | None, limit: float) -> bool:
    return ratio is None or ratio > limit


class _Axes:
    """Depth across, powers of ten up."""

    def __init__(self, first: int, last: int, low: int, high: int) -> None:
        self._first, self._span = first, max(1, last - first)
        self._low, self._high = low, high

    def x(self, depth: float) -> float:
        return _LEFT + (depth - self._first) / self._span * (_WALK[0] - _LEFT - _RIGHT)

    def y(self, size: float | None) -> float:
        power = self._high if size is None else math.log10(size) if size > 0 else self._low
        share = (power - self._low) / (self._high - self._low)
        return _BOTTOM - min(1.0, max(0.0, share)) * (_BOTTOM - _TOP)

    def grid(self) -> Iterable[Html]:
        step = math.ceil((self._high - self._low) / 6)
        for power in range(self._low, self._high + 1, step):
            y = self.y(10.0**power)
            yield tag("path", d=f"M{_LEFT} {y:.1f}H{_WALK[0] - _RIGHT}", class_="axis")
            yield tag("text", f"1e{power}", x=f"{_LEFT - 8}", y=f"{y + 4:.1f}", text_anchor="end")

    def line(self, points: Sequence[Mapping[str, Any]], key: str) -> str:
        return "M" + "L".join(f"{self.x(s['depth']):.1f} {self.y(s[key]):.1f}" for s in points)

    def dot(self, step: Mapping[str, Any], limit: float) -> Html:
        ratio = "∞" if step["ratio"] is None else f"{step['ratio']:.3g}"
        told = tag("title", f"{step['name']}: {ratio} times its floor")
        kind = "out" if _beyond(step["ratio"], limit) else "in"
        x, y = self.x(step["depth"]), self.y(step["error"])
        return tag("circle", told, cx=f"{x:.1f}", cy=f"{y:.1f}", r="3.5", class_=kind)

    def flag(self, step: Mapping[str, Any]) -> Html:
        """The name of a value, on the side of it that has room."""
        x, y = self.x(step["depth"]), self.y(step["error"])
        left = x > _WALK[0] / 2
        text = tag(
            "text", step["name"], x=f"{x - 8 if left else x + 8:.1f}", y=f"{_TOP - 8}",
            text_anchor="end" if left else None, class_="flag",
        )  # fmt: skip  # as it reads
        pole = tag("path", d=f"M{x:.1f} {_TOP - 16}V{_BOTTOM}", class_="pole")
        ring = tag("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="7", class_="ring")
        return join([pole, text, ring])
