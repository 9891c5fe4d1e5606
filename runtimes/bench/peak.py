"""How many requests a second a model can take before its latency breaks a bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeport.runtimes.errors import UsageError

from . import loops
from .arrivals import calls_in, schedule
from .loops import Call
from .setting import Peak
from .statistics import nearest_rank, smallest_n

PROBES: Final = 8
"""Halvings, on a log scale, of the range from 1/20 of the capacity to all of it: 1 % is left."""
LOWEST_SHARE: Final = 0.05
WARM_SHARE: Final = 0.1
"""Of a probe's requests, which fill the queue and are not counted."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate that was tried.

    Attributes:
        rate_hz: Requests per second.
        latency_ns: The percentile found.
        calls: Requests counted.
        kept: Whether the bound held.
    """

    rate_hz: float
    latency_ns: int
    calls: int
    kept: bool


@dataclass(frozen=True, slots=True)
class PeakFound:
    """The answer of one process.

    Attributes:
        rate_hz: The highest rate that kept the bound; ``None`` if none did.
        probes: All that were tried, in order.
    """

    rate_hz: float | None
    probes: tuple[Probe, ...]


def find_peak(call: Call, mode: Peak, time_ns: int, seed: tuple[int, ...]) -> PeakFound:
    """Bisect the rate of Poisson arrivals on a log scale, each probe for an equal time.

    A queue before one server is stable only below its capacity, 1 / mean service time: the search
    ends there. A rate fails if the percentile of its requests is beyond the bound.

    Args:
        call: One request.
        mode: The percentile and its bound.
        time_ns: For all probes.
        seed: Of the arrivals.

    Raises:
        UsageError: The time is too short for the percentile at a rate that had to be tried.
    """
    service = loops.warm_up(call, 11, time_ns // 20, 2000)
    high = 1e9 / float(np.mean(service[len(service) // 4 :]))
    low = LOWEST_SHARE * high
    best: float | None = None
    probes: list[Probe] = []
    for number in range(PROBES):
        rate = math.sqrt(low * high)
        calls = calls_in(rate, int(time_ns * (1 - WARM_SHARE)) // PROBES)
        if calls < smallest_n(mode.percent):
            raise _too_short(mode, rate, time_ns, calls)
        probes.append(_probe(call, mode, rate, calls, (*seed, number)))
        if probes[-1].kept:
            best = low = rate
        else:
            high = rate
    return PeakFound(best, tuple(probes))


def _too_short(mode: Peak, rate: float, time_ns: int, calls: int) -> UsageError:
    wanted = smallest_n(mode.percent)
    more = math.ceil(wanted / max(calls, 1) * 1.1)
    return UsageError(
        f"p{mode.percent:g} at {rate:.3g} requests/s needs {wanted} requests in each of {PROBES} "
        f"probes, and {time_ns / 1e9:.3g} s are enough for {calls}",
        remedy=f"measure {more} times as long (--seconds), or bound a lower --percentile",
    )


def _probe(call: Call, mode: Peak, rate: float, calls: int, seed: tuple[int, ...]) -> Probe:
    warm = int(WARM_SHARE * calls)
    durations = np.zeros(calls + warm, np.int64)
    loops.open_loop(call, durations, schedule("poisson", rate, len(durations), seed))
    latency = nearest_rank(durations[warm:], mode.percent)
    return Probe(rate, latency, calls, latency <= mode.bound_ns)
