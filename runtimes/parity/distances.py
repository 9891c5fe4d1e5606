"""The formulas: distances between two arrays of floats, safe at both ends of their range."""

import math
from typing import Any, Final

import numpy as np

from edgeport.runtimes.inputs import Array

BINADES: Final = 32
"""Bins of a histogram of errors: each half as large as the one before, the last one takes the
rest. 2^32 between the largest and the smallest shows eager's noise below any fault."""


_SAFE: Final = 1e-100
"""Float64 above it, and below its inverse, has squares and sums of squares."""


def rms(values: Array) -> float:
    """Root of the mean square; scaled first where it must be: 1e-200 and 1e200 have no square.

    Args:
        values: (N,) float64, N > 0, none negative.
    """
    peak = float(values.max())
    if not math.isfinite(peak):
        return peak
    by = divisor(peak)
    scaled = values if by == 1 else values / by
    return by * math.sqrt(float(np.dot(scaled, scaled)) / values.size)


def divisor(peak: float) -> float:
    """What values up to this magnitude are divided by before they are squared; 1 for most."""
    return 1.0 if not peak or math.isinf(peak) or _SAFE < peak < 1 / _SAFE else peak


def cosine_of(square_a: float, square_b: float, product: float) -> float | None:
    """Cosine of the angle between two vectors: a.b / (|a| |b|); ``None`` if one is zero.

    Args:
        square_a: a.a, of values that were divided by their ``divisor``.
        square_b: b.b, likewise.
        product: a.b, likewise.

    Examples:
        >>> cosine_of(1.0, 25.0, 3.0)
        0.6
    """
    if square_a == 0 or square_b == 0:
        return None
    return min(1.0, max(-1.0, product / (math.sqrt(square_a) * math.sqrt(square_b))))


def ulp_distance(a: Array, b: Array) -> Array:
    """Count the steps from one float to the other: how many floats of their dtype lie between.

    The bits of IEEE 754 floats, read as integers with the sign turned into an order, count the
    floats from the smallest up: neighbours differ by 1, +0 and -0 are the same (Dawson, "Comparing
    Floating Point Numbers, 2012 Edition").

    Args:
        a: (N,) float16, float32 or float64, finite.
        b: Of the same dtype and shape.

    Returns:
        Unsigned integers of the width of the floats.

    Examples:
        >>> ulp_distance(np.float32([1, -0.0]), np.float32([1 + 2**-22, 0]))
        array([2, 0], dtype=uint32)
    """
    x, y = _ordered(a), _ordered(b)
    unsigned = f"u{a.dtype.itemsize}"
    distance: Array = x.view(unsigned) - y.view(unsigned)  # its wrapping is the right one
    np.negative(distance, out=distance, where=x < y)
    return distance


def _ordered(floats: Array) -> Array:
    """Integers in the order of the floats, without a branch: a negative one is -magnitude."""
    width = 8 * floats.dtype.itemsize
    bits = np.ascontiguousarray(floats).view(f"i{floats.dtype.itemsize}")
    sign: Array = bits >> (width - 1)  # -1 or 0
    ordered: Array = (bits ^ (sign & (2 ** (width - 1) - 1))) - sign
    return ordered


def middle(values: Array) -> Any:
    """The middle one of the values, the larger of two; (N,), N > 0."""
    return np.partition(values, values.size // 2)[values.size // 2]


def binades(values: Array, top: int) -> tuple[int, ...]:
    """Count magnitudes by powers of two, from the largest down.

    Args:
        values: (N,) float64, none negative.
        top: Bin 0 holds what is at least 2^(top - 1), and nothing reaches 2^top; bin k holds half
            of bin k - 1; the last one the rest. Below 2^-990 they run into each other.

    Examples:
        >>> binades(np.array([1.0, 0.75, 0.5, 0.3, 0.0]), top=1)[:3]
        (1, 2, 1)
    """
    exponents = values.view(np.int64) >> 52  # biased by 1023, and 1 <= significand < 2
    bins = np.clip(top + 1022 - exponents, 0, BINADES - 1)
    return tuple(np.bincount(bins, minlength=BINADES).tolist())


def binade(value: float) -> int:
    """The smallest integer n >= -1022 with value < 2^n; 1025 for infinity."""
    return 1025 if math.isinf(value) else max(-1022, math.frexp(value)[1]) if value else -1022
