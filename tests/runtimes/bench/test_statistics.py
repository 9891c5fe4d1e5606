import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeport.runtimes.bench.statistics import (
    PERCENTS,
    SMALLEST_ROUNDS,
    Durations,
    paired_ratio,
    percentile_intervals,
    percentiles,
    smallest_n,
)


@st.composite
def durations(draw: st.DrawFn) -> Durations:
    rounds, calls = draw(st.integers(1, 15)), draw(st.integers(1, 12))
    flat = st.lists(st.integers(1, 10**7), min_size=rounds * calls, max_size=rounds * calls)
    return np.array(draw(flat), np.int64).reshape(rounds, calls)


@pytest.mark.parametrize(("percent", "n"), [(50, 11), (90, 64), (95, 130), (99, 662), (99.9, 6636)])
def test_smallest_n_is_that_of_loadgen(percent: float, n: int) -> None:
    assert smallest_n(percent) == n


@given(st.floats(1, 99.95))
def test_smallest_n_is_the_smallest(percent: float) -> None:
    def at_most_one_slower(n: int) -> float:
        slower = 1 - percent / 100
        return sum(math.comb(n, k) * slower**k * (1 - slower) ** (n - k) for k in (0, 1))

    n = smallest_n(percent)
    assert at_most_one_slower(n) <= 0.01 + 1e-12
    assert n == 2 or at_most_one_slower(n - 1) > 0.01 - 1e-12


@settings(max_examples=50)
@given(durations())
def test_a_percentile_is_a_measured_latency_inside_its_interval(rounds_ns: Durations) -> None:
    ordered = sorted(rounds_ns.ravel().tolist())
    found = percentile_intervals(rounds_ns, PERCENTS, seed=0)
    for percent, interval in zip(PERCENTS, found, strict=True):
        assert interval.value == ordered[math.ceil(percent * len(ordered) / 100) - 1]
        if len(rounds_ns) < SMALLEST_ROUNDS:
            assert interval.low is None
            assert interval.high is None
        else:
            assert interval.low is not None
            assert interval.high is not None
            assert ordered[0] <= interval.low <= interval.high <= ordered[-1]


@settings(max_examples=25)
@given(durations(), st.integers(0, 99))
def test_the_order_of_calls_in_a_round_does_not_matter(rounds_ns: Durations, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permuted(rounds_ns, axis=1)
    assert percentile_intervals(shuffled, PERCENTS, seed=3) == percentile_intervals(
        rounds_ns, PERCENTS, seed=3
    )


def test_a_percentile_is_withheld_until_there_are_calls_enough() -> None:
    found = percentiles(np.arange(1, 101).reshape(10, 10), seed=0)
    assert [p.missing_calls for p in found] == [0, 0, 562]
    assert [p.latency_ns and p.latency_ns.value for p in found] == [50, 90, None]


def test_the_seed_decides_the_interval() -> None:
    rounds_ns = np.random.default_rng(0).integers(1000, 9999, (12, 5))
    first = percentile_intervals(rounds_ns, (50,), seed=1)
    assert percentile_intervals(rounds_ns, (50,), seed=1) == first
    assert percentile_intervals(rounds_ns, (50,), seed=2) != first


def test_rounds_cover_the_truth_where_calls_do_not() -> None:
    """Calls of one round share its mood: a bootstrap over single calls is far too sure."""
    generator = np.random.default_rng(5)
    truth, trials = 100_000, 120
    covered = {"rounds": 0, "calls": 0}
    for trial in range(trials):
        mood = generator.normal(0, 5000, (30, 1))
        rounds_ns = (truth + mood + generator.normal(0, 1000, (30, 20))).astype(np.int64)
        for name, shape in (("rounds", (30, 20)), ("calls", (600, 1))):
            (p50,) = percentile_intervals(rounds_ns.reshape(shape), (50,), seed=trial)
            assert p50.low is not None
            assert p50.high is not None
            covered[name] += p50.low <= truth <= p50.high
    assert 0.88 <= covered["rounds"] / trials <= 0.99
    assert covered["calls"] / trials < 0.6


@settings(max_examples=50)
@given(durations(), st.integers(1, 9))
def test_a_ratio_is_free_of_the_drift_that_both_share(rounds_ns: Durations, times: int) -> None:
    drift = np.arange(1, len(rounds_ns) + 1)[:, None]
    ratio = paired_ratio(times * drift * rounds_ns, drift * rounds_ns, seed=0)
    assert ratio.value == pytest.approx(times)
    if len(rounds_ns) < SMALLEST_ROUNDS:
        assert ratio.low is None
        assert ratio.high is None
    else:
        assert ratio.low == pytest.approx(times)
        assert ratio.high == pytest.approx(times)
