"""Percentiles that are only given when there are calls enough, and intervals over rounds.

Every array of durations is ``(rounds, calls)``. The interval is a cluster bootstrap: whole
rounds are drawn with replacement, never single calls, because calls of one round share the
machine's mood. (Davison & Hinkley 1997, Bootstrap Methods and their Application, section 3.8.)
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Durations = NDArray[np.int64]

PERCENTS: Final = (50, 90, 99)
SMALLEST_ROUNDS: Final = 10
"""Fewer rounds give no interval: a bootstrap over a handful of clusters is far too narrow."""

_CONFIDENCE: Final = 0.99
_COVERAGE: Final = 0.95
_RESAMPLES: Final = 1000


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval; ``None`` for the ends if there are too few rounds."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile of a backend's calls.

    Attributes:
        percent: Which: 50 is the median.
        missing_calls: How many more calls are needed before it may be given.
        latency_ns: The nearest-rank percentile, a latency that was really measured; ``None``
            as long as calls are missing.
    """

    percent: float
    missing_calls: int
    latency_ns: Interval | None


def smallest_n(percent: float) -> int:
    """The fewest calls from which a percentile may be given.

    With q = percent / 100, the smallest n with

        P(Binomial(n, 1 - q) <= 1) = q^n + n (1 - q) q^(n - 1) <= 1 - 0.99

    so that, with a one-sided confidence of 99 %, at least two calls were slower than the true
    percentile. This is the early-stopping rule of MLPerf LoadGen (``MinPassingQueriesFinder``
    in https://github.com/mlcommons/inference/blob/master/loadgen/early_stopping.cc).

    Examples:
        >>> [smallest_n(percent) for percent in (50, 90, 95, 99, 99.9)]
        [11, 64, 130, 662, 6636]
    """
    q = percent / 100
    low, high = 1, 2
    while _too_few(high, q):
        low, high = high, 2 * high
    while high - low > 1:  # too few at low, enough at high
        middle = (low + high) // 2
        low, high = (middle, high) if _too_few(middle, q) else (low, middle)
    return high


def percentiles(durations_ns: Durations, *, seed: int) -> tuple[Percentile, ...]:
    """The percentiles ``PERCENTS`` of a backend's rounds, each with its interval."""
    missing = [max(0, smallest_n(percent) - durations_ns.size) for percent in PERCENTS]
    intervals = percentile_intervals(durations_ns, PERCENTS, seed=seed)
    return tuple(
        Percentile(percent, calls, None if calls else interval)
        for percent, calls, interval in zip(PERCENTS, missing, intervals, strict=True)
    )


def percentile_intervals(
    durations_ns: Durations, percents: tuple[float, ...], *, seed: int
) -> list[Interval]:
    """Nearest-rank percentiles with intervals, however few calls there are."""
    rounds, calls = durations_ns.shape
    order = np.argsort(durations_ns, axis=None)  # sorted once; a resample only changes weights
    ordered, round_of = durations_ns.ravel()[order], order // calls
    ranks = [math.ceil(percent * durations_ns.size / 100) for percent in percents]

    def of(weights: NDArray[np.int64]) -> Durations:
        return ordered[np.searchsorted(np.cumsum(weights[round_of]), ranks)]

    values = of(np.ones(rounds, np.int64))
    if rounds < SMALLEST_ROUNDS:
        return [Interval(float(value), None, None) for value in values]
    drawn = _draw(rounds, seed)  # (resamples, rounds)
    resampled = np.array([of(np.bincount(row, minlength=rounds)) for row in drawn])
    return _intervals(values, resampled)


def paired_ratio(slower_ns: Durations, faster_ns: Durations, *, seed: int) -> Interval:
    """How many times slower: the median over rounds of the ratio of the rounds' medians.

    Backends are paired round by round because a round meets one state of the machine: the
    machine's drift cancels.
    """
    ratios = np.median(slower_ns, axis=1) / np.median(faster_ns, axis=1)  # (rounds,)
    value = float(np.median(ratios))
    if len(ratios) < SMALLEST_ROUNDS:
        return Interval(value, None, None)
    resampled = np.median(ratios[_draw(len(ratios), seed)], axis=1, keepdims=True)
    return _intervals(np.array([value]), resampled)[0]


def _too_few(n: int, q: float) -> bool:
    return q**n + n * (1 - q) * q ** (n - 1) > 1 - _CONFIDENCE


def _draw(rounds: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, rounds, (_RESAMPLES, rounds))


def _intervals(
    values: NDArray[np.number[Any]], resampled: NDArray[np.number[Any]]
) -> list[Interval]:
    tails = [(1 - _COVERAGE) / 2, (1 + _COVERAGE) / 2]
    low, high = np.quantile(
        resampled.astype(np.float64), tails, axis=0
    )  # (resamples, values) -> (2, values)
    return [
        Interval(float(v), float(a), float(b)) for v, a, b in zip(values, low, high, strict=True)
    ]
