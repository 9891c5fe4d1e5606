import math
import re
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeport.commands import charts
from edgeport.commands.charts import Axis, Line, Moment
from edgeport.commands.html_page import document

NUMBERS = st.floats(-1e9, 1e9)


def places(svg: str) -> list[float]:
    return [float(n) for d in re.findall(r' d="([^"]*)"', svg) for n in re.findall(r"-?[\d.]+", d)]


@given(st.lists(NUMBERS, min_size=1, max_size=30), st.booleans())
def test_every_curve_stays_in_its_frame(ys: list[float], log: bool) -> None:
    curve = Line("a < b", [float(n) for n in range(len(ys))], ys)
    drawn = charts.lines("a chart", [curve], x="x", y="y", log=log)
    assert all(math.isfinite(n) and -1 <= n <= 461 for n in places(drawn))
    assert "a &lt; b" in drawn
    assert "nan" not in drawn


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
def test_there_are_a_few_round_ticks(low: float, span: float) -> None:
    assume(span > 100 * np.spacing(abs(low)))  # else there are no floats between
    axis = Axis.around([low, low + span])
    assert 2 <= len(axis.ticks()) <= 7
    assert all(-0.01 <= axis.share(tick) <= 1.01 for tick in axis.ticks())


@given(st.lists(NUMBERS, min_size=1, max_size=50))
def test_a_histogram_counts_everything(values: list[float]) -> None:
    drawn = charts.histogram("h", values, x="x", y="y")
    counted = [int(n) for n in re.findall(r"<title>(\d+) from", drawn)]
    assert sum(counted) == len(values)


@pytest.mark.parametrize(("count", "ticks"), [(1, ["0", "1"]), (3, ["0", "1", "2", "3"])])
def test_there_is_no_half_of_an_example(count: int, ticks: list[str]) -> None:
    drawn = charts.histogram("h", [5.0] * count, x="x", y="y")
    assert re.findall(r'text-anchor="end">([^<]*)<', drawn) == ticks


def test_a_confusion_matrix_marks_what_is_wrong() -> None:
    drawn = charts.counts("c", ["cat", "<dog>"], [[3, 1], [0, 2]])
    assert "&lt;dog&gt;" in drawn
    assert re.findall(r'class="(hit|miss)" style="--share:([\d.]+)">(\d+)<', drawn) == [
        ("hit", "1.000", "3"), ("miss", "0.333", "1"), ("hit", "0.667", "2"),
    ]  # fmt: skip


def test_points_are_all_there() -> None:
    drawn = charts.points("p", [1, 2, 3], [1, 2, 4], x="x", y="y", rule="equal")
    assert drawn.count("<circle") == 3
    assert 'class="guide"' in drawn


@pytest.mark.parametrize(
    ("xs", "ticks"), [([1.0, 2.0], ["1", "2"]), ([1.0], ["1"]), ([0.5, 1.0], ["0.5", "0.6"])]
)
def test_there_is_no_half_of_an_epoch(xs: list[float], ticks: list[str]) -> None:
    drawn = charts.lines(
        "l", [Line("a", xs, xs)], x="epoch", y="y", up=Axis(0, 1, names=((9, ""),))
    )
    names = re.findall(r'text-anchor="middle">([^<]*)<', drawn)
    assert names[: len(ticks)] == ticks


def test_the_line_at_zero_is_in_the_frame_of_points_above_it() -> None:
    drawn = charts.points("p", [1, 2], [3, 4], x="x", y="y", rule="zero")
    (level,) = re.findall(r'd="M66 ([\d.]+)H448" class="guide"', drawn)
    assert float(level) <= 192, "below are the numbers and the name of the axis"


@given(st.floats(1e-9, 1e9), st.floats(1.0001, 1e12))
def test_a_logarithmic_axis_has_a_few_round_ticks(low: float, ratio: float) -> None:
    axis = Axis.around([low, low * ratio], log=True)
    assert 2 <= len(axis.ticks()) <= 7
    assert all(-0.01 <= axis.share(tick) <= 1.01 for tick in axis.ticks())


def test_a_gradient_without_bound_is_drawn() -> None:
    """1.8e308 stands for infinity in a run: no room is left above it."""
    axis = Axis.around([1.0, sys.float_info.max], log=True)
    assert 2 <= len(axis.ticks()) <= 7


def test_ticks_of_less_than_a_decade_are_read_easily() -> None:
    assert Axis.around([14.0, 31.0], log=True).ticks() == [15, 20, 25, 30]
    assert Axis.around([3.0, 60.0], log=True).ticks() == [3, 10, 30]
    assert Axis.around([1e-3, 1e3], log=True).ticks() == pytest.approx([1e-3, 0.1, 10, 1e3])


@given(
    st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=30),
    st.lists(NUMBERS, min_size=30, max_size=30),
)
def test_a_curve_over_a_logarithmic_x_stays_in_its_frame(xs: list[float], ys: list[float]) -> None:
    spans = [(y - 1, y + 1) for y in ys[: len(xs)]]
    curve = Line("c", xs, ys[: len(xs)], dotted=True, spans=spans)
    across = Axis.around(xs, log=True)
    drawn = charts.lines("a chart", [curve], x="x", y="y", across=across, level=(0.0, "<zero>"))
    assert all(math.isfinite(n) and -1 <= n <= 461 for n in places(drawn))
    assert drawn.count("<circle") == len(xs)
    assert drawn.count('class="span main"') == len(xs)
    assert "&lt;zero&gt;" in drawn


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (4.1571, 4.1591, ["4.1575", "4.158", "4.1585", "4.159"]),
        (1e9, 1e9 + 4, ["1000000000", "1000000001", "1000000002", "1000000003", "1000000004"]),
        (0.0, 0.4, ["0", "0.1", "0.2", "0.3", "0.4"]),
    ],
)
def test_names_of_ticks_tell_them_apart(low: float, high: float, names: list[str]) -> None:
    assert [name for _, name in Axis(low, high).named_ticks()] == names


def test_named_ticks_are_those_in_sight() -> None:
    axis = Axis(1.5, 200.0, log=True, names=((1.0, "p0"), (2.0, "p50"), (100.0, "p99")))
    assert axis.named_ticks() == [(2.0, "p50"), (100.0, "p99")]


def test_every_style_has_a_colour_and_a_dash_of_its_own() -> None:
    page = document("t", [])
    colours, dashes = [], []
    for style in charts.STYLES:
        found = re.search(rf"\.{style} {{ --tone: ([^;]+);", page)
        assert found
        colours.append(found[1])
        dash = re.search(rf"svg \.curve\.{style} {{ stroke-dasharray: ([^;]+);", page)
        dashes.append(dash[1] if dash else "solid")
    assert len(set(colours)) == len(set(dashes)) == len(charts.STYLES) == 8
    assert charts.swatch("fifth").count('class="curve fifth"') == 1


@given(
    st.lists(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=8), min_size=1, max_size=10),
    st.booleans(),
)
def test_a_strip_shows_every_value_in_its_group(groups: list[list[float]], log: bool) -> None:
    moments = [
        [Moment(value, f"<{value}>", odd=n % 2 == 1) for n, value in enumerate(group)]
        for group in groups
    ]
    drawn = charts.strip("s", moments, x="group", y="µs", level=1.0, log=log)
    odd = sum(len(group) // 2 for group in groups)
    assert drawn.count('class="odd"') == odd
    assert drawn.count("<circle") == sum(map(len, groups)) - odd
    lefts = [float(x) for x in re.findall(r'cx="([\d.]+)"', drawn)]
    assert lefts == sorted(lefts)
    assert all(66 <= left <= 448 for left in lefts)
    assert drawn.count('V80"') == len(groups) - 1
