"""When requests arrive in an open loop: at a steady rate, or as a Poisson process."""

import math
from typing import Literal

import numpy as np

from .loops import Durations

Arrivals = Literal["constant", "poisson"]


def schedule(kind: Arrivals, rate_hz: float, calls: int, seed: tuple[int, ...]) -> Durations:
    """The moments of arrival.

    Args:
        kind: ``constant``, every 1 / rate; or ``poisson``, independent users, whose gaps are
            exponential with mean 1 / rate (MLPerf LoadGen's Server scenario).
        rate_hz: Requests per second.
        calls: How many.
        seed: Of the gaps.

    Returns:
        ``(calls,)`` int64, ns from the start, ascending.

    Examples:
        >>> schedule("constant", 1000, 3, (0,))
        array([      0, 1000000, 2000000])
    """
    mean_ns = 1e9 / rate_hz
    if kind == "constant":
        return np.round(np.arange(calls) * mean_ns).astype(np.int64)
    gaps = np.random.default_rng(seed).exponential(mean_ns, calls)
    return np.round(np.cumsum(gaps)).astype(np.int64)


def calls_in(rate_hz: float, time_ns: int) -> int:
    """How many requests arrive in a time, at least one."""
    return max(1, math.floor(rate_hz * time_ns / 1e9))
