"""The formulas: distances between two arrays of floats, safe at both ends of their range."""

import math
from typing import Any, Final

import numpy as np

from edgeport.runtimes.inputs import Array

BINADES: Final = 32
"""Bins of a histogram of errors: each half as large as the one before, the last one takes the
rest. 2^32 between the largest and the smallest shows eager's noise below any fault."""


def rms(values: Array) -> float:
    """Root of the mean square; scaled first, because 1e-200 and 1e200 have no square.

    Args:
        values: (N,) float64, N > 0, none negative.
    """
    peak = float(values.max())
    if peak == 0 or not math.isfinite(peak):
        return peak
    scaled = values / peak
    return peak * math.sqrt(float(np.dot(scaled, scaled)) / values.size)


def cosine(a: Array, b: Array) -> float | None:
    """Cosine of the angle between two vectors: a.b / (|a| |b|); ``None`` if one is zero.

    Args:
        a: (N,) float64, N > 0, finite.
        b: As ``a``.

    Examples:
        >>> round(cosine(np.array([1.0, 0.0]), np.array([3e200, 4e200])), 12)
        0.6
    """
    peak_a, peak_b = float(np.abs(a).max()), float(np.abs(b).max())
    if peak_a == 0 or peak_b == 0:
        return None
    a, b = a / peak_a, b / peak_b
    lengths = math.sqrt(float(np.dot(a, a))) * math.sqrt(float(np.dot(b, b)))
    return min(1.0, max(-1.0, float(np.dot(a, b)) / lengths))


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
    distance: Array = np.maximum(x, y) - np.minimum(x, y)
    return distance


def _ordered(floats: Array) -> Array:
    unsigned = np.dtype(f"u{floats.dtype.itemsize}").type
    bits = np.ascontiguousarray(floats).view(unsigned)
    sign = unsigned(1) << unsigned(8 * floats.dtype.itemsize - 1)
    ordered: Array = np.where(bits & sign, sign - (bits ^ sign), sign + bits)
    return ordered


def middle(values: Array) -> Any:
    """The middle one of the values, the larger of two; (N,), N > 0."""
    return np.partition(values, values.size // 2)[values.size // 2]


def binades(values: Array, top: int) -> tuple[int, ...]:
    """Count magnitudes by powers of two, from the largest down.

    Args:
        values: (N,) float64, none negative.
        top: Bin 0 holds what is at least 2^(top - 1); bin k half of that; the last one the rest.

    Examples:
        >>> binades(np.array([1.0, 0.75, 0.5, 0.3, 0.0]), top=1)[:3]
        (1, 2, 1)
    """
    finite = np.minimum(values, np.finfo(np.float64).max)  # frexp gives Inf the exponent 0
    exponents = np.where(values > 0, np.frexp(finite)[1], top - BINADES)
    bins = np.clip(top - exponents, 0, BINADES - 1)
    return tuple(np.bincount(bins, minlength=BINADES).tolist())


def binade(value: float) -> int:
    """The smallest integer n with value < 2^n, for a finite value above 0."""
    return math.frexp(value)[1]
