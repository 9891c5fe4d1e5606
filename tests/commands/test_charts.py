import math
import re

from hypothesis import given
from hypothesis import strategies as st

from edgeport.commands import charts
from edgeport.commands.charts import Axis, Line

NUMBERS = st.floats(-1e9, 1e9)


def places(svg: str) -> list[float]:
    return [float(n) for d in re.findall(r' d="([^"]*)"', svg) for n in re.findall(r"-?[\d.]+", d)]


@given(st.lists(NUMBERS, min_size=1, max_size=30), st.booleans())
def test_every_curve_stays_in_its_frame(ys: list[float], log: bool) -> None:
    curve = Line("a < b", [float(n) for n in range(len(ys))], ys)
    drawn = charts.lines("a chart", [curve], x="x", y="y", log=log, zero=True)
    assert all(math.isfinite(n) and -1 <= n <= 461 for n in places(drawn))
    assert "a &lt; b" in drawn
    assert "nan" not in drawn


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12))
def test_there_are_a_few_round_ticks(low: float, span: float) -> None:
    axis = Axis.around([low, low + span])
    assert 2 <= len(axis.ticks()) <= 7
    assert all(-0.01 <= axis.share(tick) <= 1.01 for tick in axis.ticks())


@given(st.lists(NUMBERS, min_size=1, max_size=50))
def test_a_histogram_counts_everything(values: list[float]) -> None:
    drawn = charts.histogram("h", values, x="x", y="y")
    counted = [int(n) for n in re.findall(r"<title>(\d+) from", drawn)]
    assert sum(counted) == len(values)


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
