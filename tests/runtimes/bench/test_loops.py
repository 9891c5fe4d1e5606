import gc
import time

import numpy as np
import pytest

from edgeport.runtimes.bench import loops
from edgeport.runtimes.bench.arrivals import calls_in, schedule
from edgeport.runtimes.bench.loops import Durations


def empty(calls: int) -> Durations:
    return np.full(calls, -1, np.int64)


def nap(seconds: float) -> None:
    time.sleep(seconds)


def test_a_closed_loop_times_every_call() -> None:
    durations, made = empty(5), []

    def call() -> None:
        made.append(gc.isenabled())
        nap(0.001)

    loops.closed(call, durations)
    assert made == [False] * 5  # no collection interrupts a call
    assert gc.isenabled()
    assert durations.min() >= 1_000_000


def test_collections_are_on_again_after_an_error() -> None:
    def fail() -> None:
        raise RuntimeError("the engine failed")

    with pytest.raises(RuntimeError, match="the engine failed"):
        loops.closed(fail, empty(1))
    assert gc.isenabled()


def test_pauses_are_not_counted() -> None:
    durations = empty(10)
    start = time.perf_counter_ns()
    loops.paced(lambda: None, durations, 2_000_000)
    assert time.perf_counter_ns() - start >= 20_000_000
    assert np.median(durations) < 1_000_000


def test_an_open_loop_counts_the_wait_of_every_request_that_a_stall_delays() -> None:
    """Ten requests a millisecond apart, and the first takes ten: all of them feel it."""
    durations, naps = empty(10), iter([0.010])
    loops.open_loop(lambda: nap(next(naps, 0)), durations, schedule("constant", 1000, 10, (0,)))
    assert (durations >= (10 - np.arange(10)) * 1_000_000).all()


def test_an_open_loop_never_runs_ahead_of_its_schedule() -> None:
    durations, moments = empty(5), []
    start = time.perf_counter_ns()
    arrivals = schedule("constant", 500, 5, (0,))
    loops.open_loop(lambda: moments.append(time.perf_counter_ns() - start), durations, arrivals)
    assert all(moment >= due for moment, due in zip(moments, arrivals, strict=True))
    assert durations.min() >= 0


def test_settling_calls_at_least_once() -> None:
    made: list[int] = []
    loops.settle(lambda: made.append(1), 0)
    assert len(made) == 1


def test_a_warm_up_has_a_floor_and_a_ceiling() -> None:
    assert len(loops.warm_up(lambda: None, 7, 0, 100)) == 7
    assert len(loops.warm_up(lambda: None, 7, 10**12, 100)) == 100


def test_poisson_gaps_are_exponential() -> None:
    gaps = np.diff(schedule("poisson", 1000, 20_000, (1,)))
    assert gaps.mean() == pytest.approx(1e6, rel=0.03)
    assert gaps.std() == pytest.approx(1e6, rel=0.05)
    assert (gaps < 1e6 * np.log(2)).mean() == pytest.approx(0.5, abs=0.02)


def test_the_seed_decides_the_arrivals() -> None:
    first = schedule("poisson", 10, 5, (1, 2))
    assert np.array_equal(first, schedule("poisson", 10, 5, (1, 2)))
    assert not np.array_equal(first, schedule("poisson", 10, 5, (1, 3)))


def test_calls_in_a_time() -> None:
    assert (calls_in(200, 10**9), calls_in(0.1, 10**9)) == (200, 1)
