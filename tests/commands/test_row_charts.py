import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.commands.row_charts import Ratio, Stack, forest, ratio_axis, stacks

RATIOS = st.floats(1e-3, 1e3)


def numbers(pattern: str, text: str) -> list[float]:
    return [float(n) for found in re.findall(pattern, text) for n in found]


@given(st.lists(st.tuples(RATIOS, st.floats(1, 3), st.floats(1, 1.5)), min_size=1, max_size=10))
def test_every_ratio_stays_in_its_frame(found: list[tuple[float, float, float]]) -> None:
    rows = [
        Ratio(f"<{n}>", value, value / wide, value * wide, "<text>", margin=0.03, noise=noise)
        for n, (value, wide, noise) in enumerate(found)
    ]
    drawn = forest("f", rows, ratio_axis(rows))
    assert drawn.count("diamond") == drawn.count("whisker") == len(rows)
    ends = numbers(r'd="M([\d.]+) 7v8M([\d.]+) 7v8', drawn)
    assert len(ends) == 2 * len(rows)
    assert all(20 <= end <= 440 for end in ends)
    assert all(low <= high for low, high in zip(ends[::2], ends[1::2], strict=True))
    bands = numbers(r'<rect x="([\d.]+)" y="\d" width="([\d.]+)"', drawn)
    assert len(bands) == 4 * len(rows)
    assert all(x >= 20 and x + w <= 440.2 for x, w in zip(bands[::2], bands[1::2], strict=True))
    assert "&lt;text&gt;" in drawn
    assert "<text>" not in drawn


def test_a_margin_lies_evenly_around_1() -> None:
    row = Ratio("a", 1.0, None, None, "1", margin=0.1)
    drawn = forest("f", [row], ratio_axis([row]))
    ((left, width),) = re.findall(r'<rect x="([\d.]+)" y="0" width="([\d.]+)"', drawn)
    (one,) = re.findall(r'd="M([\d.]+) 0V22" class="guide"', drawn)
    assert float(left) + float(width) / 2 == pytest.approx(float(one), abs=0.2)


def test_a_ratio_without_an_interval_has_no_whisker() -> None:
    row = Ratio("a", 2.0, None, None, "2.00", kind="third")
    drawn = forest("f", [row], ratio_axis([row]))
    assert "whisker" not in drawn
    assert 'class="diamond third"' in drawn
    assert 'aria-label="a: 2.00"' in drawn


def test_parts_follow_one_another() -> None:
    names = [("one", "soft"), ("two", "main")]
    rows = [Stack("a", (1.0, 3.0), (4.0, 5.0), "4 ms"), Stack("b", (0.0, 0.0), (), "<none>")]
    drawn = stacks("s", names, rows, "ms")
    bars = numbers(r'<rect x="([\d.]+)" y="4" width="([\d.]+)"', drawn)
    (x1, w1, x2, w2), empty = bars[:4], bars[4:]
    assert (x1, x1 + w1) == pytest.approx((20, x2), abs=0.1)
    assert w2 == pytest.approx(3 * w1, abs=0.1)
    assert empty[1::2] == [0, 0]
    ticks = numbers(r'd="M([\d.]+) (1)V21"', drawn)[::2]
    assert ticks[0] == pytest.approx(x2 + w2, abs=0.1)
    assert ticks[1] > ticks[0]
    assert "&lt;none&gt;" in drawn
    assert '<i class="patch soft"></i> one' in drawn
    assert ">5</text>" in drawn
    assert "<figcaption>s, ms<" in drawn


def test_nothing_at_all_can_be_drawn() -> None:
    assert "NaN" not in stacks("s", [("one", "main")], [Stack("a", (0.0,), (), "-")], "ms")
