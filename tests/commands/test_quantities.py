import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.commands.quantities import (
    duration,
    duration_within,
    ends,
    ratio_within,
    rounded,
    unit_of,
)
from edgeport.runtimes.bench.statistics import Interval


@given(st.floats(1, 1e12))
def test_a_duration_is_true_to_three_digits(latency_ns: float) -> None:
    number, unit = duration(latency_ns).split()
    factor = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit]
    assert float(number.replace(",", "")) * factor == pytest.approx(latency_ns, rel=0.0051)


@given(st.floats(0.001, 1e9))
def test_rounded_has_no_exponent_and_at_least_three_digits(value: float) -> None:
    text = rounded(value)
    assert re.fullmatch(r"[\d,]+(\.\d+)?", text)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(14_234, 14_001, 14_413), "14.2 µs (14.0 to 14.4)"),
        (Interval(14_234, None, None), "14.2 µs"),
        (Interval(14_234, 14_001, 62_000_000), "14.2 µs (14.0 µs to 62.0 ms)"),
        (Interval(2.5e6, 90, 3e6), "2.50 ms (90.0 ns to 3.00 ms)"),
    ],
)
def test_a_duration_has_its_interval(interval: Interval, text: str) -> None:
    assert duration_within(interval) == text


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(1.0312, 1.0291, 1.0334), "1.031 (1.029 to 1.033)"),
        (Interval(8.61, 8.5, 8.7), "8.61 (8.50 to 8.70)"),
        (Interval(1.0, 1.0, 1.0), "1.000"),
        (Interval(0.2, None, None), "0.20"),
    ],
)
def test_a_ratio_has_its_interval(interval: Interval, text: str) -> None:
    assert ratio_within(interval) == text


def test_what_is_not_known_is_left_out() -> None:
    assert ends(Interval(1.0, None, None)) == ""
    assert ends(Interval(1500.0, 1400.0, 1600.0)) == " (1,400 to 1,600)"
    assert unit_of(0.5) == (1.0, "ns")
