"""Percentiles that are only given when there are calls enough, and intervals over rounds.

Every array of durations is ``(processes, rounds, calls)``, in the order of time. Calls of one round
share the machine's mood and rounds of one process share its memory layout, so an interval draws
whole processes, and whole rounds within them, never single calls. A mood can outlast several
processes, so it draws stretches of processes as well, and the widest interval is the one given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .loops import Durations

PERCENTS: Final = (50.0, 90.0, 99.0)
SMALLEST_ROUNDS: Final = 10
"""Fewer rounds give no interval: a bootstrap over a handful of clusters is far too narrow."""
SMALLEST_PROCESSES: Final = 3
"""Of two, Student's t is 12.7: a ratio of 49 was said to lie between 0.0047 and 512,163."""
CONFIDENCE: Final = 0.95

_ENOUGH_CONFIDENCE: Final = 0.99
_RESAMPLES: Final = 1000
_BEYOND: Final = math.log(1.25)
"""How far an end may be from all that was measured; a long tail would have it at a nanosecond."""
_MARKS: Final = 1024
"""Latencies that an end of an interval may be: a thousandth of the calls lies in between."""
_STRETCHES: Final = (2, 3, 5)
"""How many, beside one a process. The longer they are, the less they depend on each other."""
_T_OF_HALVES: Final = 6.314
"""Student's t of one degree of freedom for 90 %; that for 95 %, 12.7, would drown the others."""

_STUDENT_T: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""0.975 quantiles for 1 to 30 degrees of freedom (NIST/SEMATECH e-Handbook, 1.3.6.7.2)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval; ``None`` for the ends if too little was measured."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile of a variant's calls.

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


def nearest_rank(durations_ns: Durations, percent: float) -> int:
    """A percentile that was really measured: the smallest value with that share at or below it."""
    rank = max(1, math.ceil(percent * durations_ns.size / 100))
    return int(np.partition(durations_ns, rank - 1, axis=None)[rank - 1])


def percentiles(
    durations_ns: Durations, percents: Sequence[float] = PERCENTS, *, seed: int
) -> tuple[Percentile, ...]:
    """The percentiles of a variant's rounds, each with its interval."""
    missing = [max(0, smallest_n(percent) - durations_ns.size) for percent in percents]
    intervals = percentile_intervals(durations_ns, percents, seed=seed)
    return tuple(
        Percentile(percent, calls, None if calls else interval)
        for percent, calls, interval in zip(percents, missing, intervals, strict=True)
    )


def percentile_intervals(
    durations_ns: Durations, percents: Sequence[float], *, seed: int
) -> list[Interval]:
    """Nearest-rank percentiles with intervals, however few calls there are.

    The intervals come from a two-stage cluster bootstrap: processes are drawn with replacement,
    and rounds within each (Davison & Hinkley 1997, Bootstrap Methods and their Application,
    section 3.8). A bootstrap of few clusters is too narrow, by sqrt((P - 1) / P) and by the tails
    of Student's t, so its ends are moved outwards by what is missing, on a log scale. The same is
    done with 5, 3 and 2 stretches of processes as clusters (batch means: Law 2015, Simulation
    Modeling and Analysis, section 9.5.3), and the widest is given.

    Args:
        durations_ns: ``(processes, rounds, calls)``.
        percents: Which.
        seed: Of the draws.
    """
    processes, rounds, _ = durations_ns.shape
    values = [nearest_rank(durations_ns, percent) for percent in percents]
    if processes < SMALLEST_PROCESSES or processes * rounds < SMALLEST_ROUNDS:
        return [Interval(float(value), None, None) for value in values]
    spreads = [_spread(durations_ns, count, percents, seed) for count in stretches(processes)]
    below, above = np.max(spreads, axis=0)  # (percents,) each, logarithms
    logs = np.log(np.maximum(values, 1))
    least = math.log(max(int(durations_ns.min()), 1)) - _BEYOND
    most = math.log(max(int(durations_ns.max()), 1)) + _BEYOND
    lows, highs = np.exp(np.maximum(logs - below, least)), np.exp(np.minimum(logs + above, most))
    return [
        Interval(float(v), float(min(v, a)), float(max(v, b)))
        for v, a, b in zip(values, lows, highs, strict=True)
    ]


def stretches(processes: int) -> list[int]:
    """How many stretches to take processes for, in turn: first each for one."""
    return [processes, *(count for count in _STRETCHES if count < processes)]


def _spread(
    durations_ns: Durations, count: int, percents: Sequence[float], seed: int
) -> NDArray[np.float64]:
    """How far the interval reaches below and above, ``(2, percents)``, as logarithms.

    Args:
        durations_ns: ``(processes, rounds, calls)``.
        count: Of stretches, which are clusters; what is left over in the end is left out.
        percents: Which.
        seed: Of the draws.
    """
    processes, _, calls = durations_ns.shape
    clusters = durations_ns[: processes // count * count].reshape(count, -1, calls)
    marks = np.sort(clusters, axis=None)
    marks = marks[np.linspace(0, marks.size - 1, min(marks.size, _MARKS)).astype(int)]
    upto = _counted(clusters.reshape(-1, calls), marks)
    ranks = [max(1, math.ceil(percent * clusters.size / 100)) for percent in percents]

    def of(weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Logarithms of the percentiles, ``(resamples, percents)``."""
        counts = weights @ upto
        found = [marks[np.argmax(counts >= rank, axis=1)] for rank in ranks]
        logs: NDArray[np.float64] = np.log(np.maximum(np.stack(found, axis=1), 1))
        return logs

    (value,) = of(np.ones((1, len(upto)), np.float32))
    resampled = of(_draws(count, clusters.shape[1], seed))
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = np.quantile(resampled, tails, axis=0)
    found = _few_clusters(count, processes) * np.stack([value - low, high - value])
    return np.maximum(found, 0)


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of figures of independent processes, with Student's interval."""
    found = np.asarray(values, np.float64)
    mean = float(found.mean())
    if len(found) < SMALLEST_PROCESSES:
        return Interval(mean, None, None)
    half = student_t(len(found) - 1) * float(found.std(ddof=1)) / math.sqrt(len(found))
    return Interval(mean, mean - half, mean + half)


def mean_in_time(values: Sequence[float]) -> Interval:
    """The mean of figures of processes one after the other; widest over stretches of them."""
    plain = mean_interval(values)
    if plain.low is None:
        return plain
    half = max(_half_of_mean(np.asarray(values, np.float64), n) for n in stretches(len(values)))
    return Interval(plain.value, plain.value - half, plain.value + half)


def exponential(interval: Interval) -> Interval:
    """An interval of logarithms as one of what they are the logarithms of."""
    low, high = interval.low, interval.high
    return Interval(
        math.exp(interval.value),
        None if low is None else math.exp(low),
        None if high is None else math.exp(high),
    )


def means_of_stretches(values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The mean of each stretch of values; what is left over in the end is left out."""
    means: NDArray[np.float64] = values[: len(values) // count * count].reshape(count, -1).mean(1)
    return means


def student_t(degrees: float) -> float:
    """The 0.975 quantile of Student's t, rounded up between whole degrees of freedom."""
    whole = max(1, math.floor(degrees))
    return _STUDENT_T[min(whole, len(_STUDENT_T)) - 1]


def _too_few(n: int, q: float) -> bool:
    return q**n + n * (1 - q) * q ** (n - 1) > 1 - _ENOUGH_CONFIDENCE


def _counted(rounds: NDArray[np.int64], marks: NDArray[np.int64]) -> NDArray[np.float32]:
    """How many calls of each round are at or below each mark, ``(rounds, marks)``."""
    places = np.searchsorted(marks, rounds) + len(marks) * np.arange(len(rounds))[:, np.newaxis]
    counts = np.bincount(places.ravel(), minlength=len(rounds) * len(marks))
    return counts.reshape(len(rounds), -1).cumsum(axis=1).astype(np.float32)


def t_of_stretches(count: int, processes: int, degrees: float) -> float:
    """Student's t, 0.975 quantile; of two halves the 0.95 quantile."""
    return _T_OF_HALVES if count == 2 < processes else student_t(degrees)


def _half_of_mean(values: NDArray[np.float64], count: int) -> float:
    """Half of Student's interval of a mean, of so many stretches of values."""
    error = float(means_of_stretches(values, count).std(ddof=1)) / math.sqrt(count)
    return t_of_stretches(count, len(values), count - 1) * error


def _few_clusters(count: int, processes: int) -> float:
    normal = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    t = t_of_stretches(count, processes, count - 1)
    return t / normal * math.sqrt(count / (count - 1))


def _draws(processes: int, rounds: int, seed: int) -> NDArray[np.float32]:
    """How often each round is drawn, ``(resamples, processes x rounds)``."""
    generator = np.random.default_rng(seed)
    chosen = generator.integers(0, processes, (_RESAMPLES, processes, 1))
    within = generator.integers(0, rounds, (_RESAMPLES, processes, rounds))
    total = processes * rounds
    drawn = (chosen * rounds + within).reshape(_RESAMPLES, total)
    places = drawn + total * np.arange(_RESAMPLES)[:, np.newaxis]
    counts = np.bincount(places.ravel(), minlength=_RESAMPLES * total)
    return counts.reshape(_RESAMPLES, total).astype(np.float32)
