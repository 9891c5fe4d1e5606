"""The loops that time calls: one after the other, with pauses, or as a schedule says.

Every duration goes into an array that was there before; the clock is ``perf_counter_ns``
(CLOCK_MONOTONIC: 0.09 us a reading, never set back). A garbage collection belongs to the harness,
not to the call that it would interrupt.
"""

import time
from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeport.runtimes.collector import collector_off

Call: TypeAlias = Callable[[], object]
"""One request. Its engine has finished when it returns; a backend of a device waits for it."""

Durations: TypeAlias = NDArray[np.int64]

SPIN_NS: Final = 60_000
"""A sleep ends this much early, and the rest is spent looking at the clock."""

_clock = time.perf_counter_ns


def closed(call: Call, durations_ns: Durations) -> None:
    """Call again as soon as an answer is there, and fill ``durations_ns``."""
    with collector_off():
        for index in range(len(durations_ns)):
            start = _clock()
            call()
            durations_ns[index] = _clock() - start


def paced(call: Call, durations_ns: Durations, think_ns: int) -> None:
    """Let the machine rest for ``think_ns`` after every answer, as a sensor or a person does."""
    with collector_off():
        for index in range(len(durations_ns)):
            time.sleep(think_ns / 1e9)
            start = _clock()
            call()
            durations_ns[index] = _clock() - start


def open_loop(call: Call, durations_ns: Durations, arrivals_ns: Durations) -> None:
    """Send requests when a schedule says so; a late one waits in a queue before one server.

    A latency is counted from the moment in the schedule, so that a stall is felt by every request
    that it delays. ("Coordinated omission": Gil Tene, How NOT to measure latency, 2013.)

    Args:
        call: One request.
        durations_ns: ``(n,)``, filled with the latencies.
        arrivals_ns: ``(n,)``, ascending, from the start of the loop.
    """
    with collector_off():
        origin = _clock()
        for index, offset in enumerate(arrivals_ns.tolist()):
            due = origin + offset
            _wait_until(due)
            call()
            durations_ns[index] = _clock() - due


def settle(call: Call, time_ns: int) -> None:
    """Call for a while without counting: caches and clocks come back to what the calls need."""
    end = _clock() + time_ns
    call()
    while _clock() < end:
        call()


def warm_up(call: Call, fewest: int, time_ns: int, most: int) -> Durations:
    """Call at least ``fewest`` times, then until the time is over or there are ``most``.

    Returns:
        Every duration, in order, the first among them.
    """
    durations: list[int] = []
    end = _clock() + time_ns
    while len(durations) < fewest or (_clock() < end and len(durations) < most):
        start = _clock()
        call()
        durations.append(_clock() - start)
    return np.array(durations, np.int64)


def _wait_until(moment_ns: int) -> None:
    left_ns = moment_ns - _clock()
    if left_ns > SPIN_NS:
        time.sleep((left_ns - SPIN_NS) / 1e9)
    while _clock() < moment_ns:
        pass
