"""Durations, rates and ratios as people read them: three digits that matter, and a unit."""

import math
from typing import Final

from edgeport.runtimes.bench.statistics import Interval

UNAVAILABLE: Final = "unavailable"

_UNITS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))


def rounded(value: float) -> str:
    """Three digits that matter.

    Examples:
        >>> [rounded(value) for value in (0.0123, 0.9999, 9.999, 99.99, 31415.9)]
        ['0.0123', '1.00', '10.0', '100', '31,416']
    """
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 0.9995:
        return f"{value:.{1 if size >= 9.995 else 2}f}"
    return f"{value:.3g}"


def four_decimals(value: float) -> str:
    """A number of a column of numbers; of very large and very small ones their power of ten.

    Examples:
        >>> [four_decimals(value) for value in (0.25, 2900.19361, 2.08e46, 4.6e-60, 0.0)]
        ['0.2500', '2900.1936', '2.0800e+46', '4.6000e-60', '0.0000']
    """
    return f"{value:.4f}" if value == 0 or 1e-4 <= abs(value) < 1e9 else f"{value:.4e}"


def unit_of(latency_ns: float) -> tuple[float, str]:
    """The largest unit of which it holds at least one: its ns and its name.

    Examples:
        >>> unit_of(14_200), unit_of(2.5e9)
        ((1000.0, 'µs'), (1000000000.0, 's'))
    """
    return next((unit for unit in _UNITS if abs(latency_ns) >= unit[0]), _UNITS[-1])


def duration(latency_ns: float) -> str:
    """A time in the unit that suits it.

    Examples:
        >>> duration(14_234), duration(312e6)
        ('14.2 µs', '312 ms')
    """
    unit_ns, unit = unit_of(latency_ns)
    return f"{rounded(latency_ns / unit_ns)} {unit}"


def duration_within(interval: Interval) -> str:
    """A time and its 95 % interval, in one unit unless its ends are far apart.

    Examples:
        >>> duration_within(Interval(14_234, 14_001, 14_413))
        '14.2 µs (14.0 to 14.4)'
        >>> duration_within(Interval(14_234, 14_001, 62_000_000))
        '14.2 µs (14.0 µs to 62.0 ms)'
    """
    text, unit_ns = duration(interval.value), unit_of(interval.value)[0]
    low, high = interval.low, interval.high
    if low is None or high is None or (low >= unit_ns / 10 and high < 1000 * unit_ns):
        return text + ends(interval, unit_ns)
    return f"{text} ({duration(low)} to {duration(high)})"


def ratio_within(interval: Interval) -> str:
    """A ratio and its interval; near 1 with the digits that show the difference.

    Examples:
        >>> ratio_within(Interval(1.0312, 1.0291, 1.0334)), ratio_within(Interval(8.61, 8.5, 8.7))
        ('1.031 (1.029 to 1.033)', '8.61 (8.50 to 8.70)')
        >>> ratio_within(Interval(0.0049, 0.000123, 1.56))
        '0.0049 (0.00012 to 1.56)'
        >>> ratio_within(Interval(443.8, 1.1, 3567958.66))
        '444 (1.10 to 3,567,959)'
    """
    digits = 3 if abs(math.log(interval.value)) < math.log(1.5) else 2
    text = _ratio(interval.value, digits)
    if interval.low is None or interval.high is None or interval.low == interval.high:
        return text
    return f"{text} ({_ratio(interval.low, digits)} to {_ratio(interval.high, digits)})"


def _ratio(value: float, digits: int) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{digits}f}" if value >= 0.1 else f"{value:.2g}"


def ends(interval: Interval, unit: float = 1.0) -> str:
    """The interval in brackets after a blank, or nothing if it is not known."""
    if interval.low is None or interval.high is None:
        return ""
    return f" ({rounded(interval.low / unit)} to {rounded(interval.high / unit)})"
