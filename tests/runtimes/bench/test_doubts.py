from dataclasses import replace

import numpy as np
import pytest

from edgeport.runtimes.bench import Closed, Cold, Environment, OpenLoop, Sweep
from edgeport.runtimes.bench.doubts import drift, of_counts, of_figures, of_the_whole, two_kinds

noise = np.random.default_rng(0)


def test_no_trend_is_no_drift() -> None:
    found = [
        drift((1e6 * np.random.default_rng(seed).uniform(0.9, 1.1, (5, 8, 20))).astype(np.int64))
        for seed in range(50)
    ]
    assert sum(change is not None for change in found) <= 1


def test_moods_that_last_some_rounds_are_no_drift() -> None:
    told = 0
    for seed in range(50):
        draws = np.random.default_rng(seed)
        moods = np.repeat(draws.choice([1.0, 1.8], (15, 10)), 4, axis=1)  # (processes, rounds)
        rounds = 1e5 * moods[..., None] * draws.uniform(0.98, 1.02, (15, 40, 20))
        told += drift(rounds.astype(np.int64)) is not None
    assert told <= 1


@pytest.mark.parametrize(("end", "change"), [(1.5, 1.27), (0.6, 0.75)])
def test_a_trend_within_processes_is_told(end: float, change: float) -> None:
    trend = np.linspace(1, end, 8).reshape(1, 8, 1)
    rounds = (1e6 * trend * noise.uniform(0.98, 1.02, (5, 8, 20))).astype(np.int64)
    assert drift(rounds) == pytest.approx(change, abs=0.08)


def test_too_few_rounds_tell_no_drift() -> None:
    assert drift(np.arange(1, 5).reshape(1, 4, 1)) is None


def test_one_kind_of_call() -> None:
    for draw in (noise.normal, noise.lognormal):
        assert two_kinds((1e5 * np.exp(0.02 * draw(0, 1, 5000))).astype(np.int64)) is None
    assert two_kinds(noise.integers(10**6, 2 * 10**6, 5000)) is None
    assert two_kinds(np.full(100, 7)) is None
    assert two_kinds(np.array([1, 2])) is None


def test_two_kinds_of_calls() -> None:
    calls = np.concatenate([noise.normal(1e5, 2e3, 700), noise.normal(2e5, 4e3, 300)])
    found = two_kinds(calls.astype(np.int64))
    assert found == pytest.approx((1e5, 2e5, 0.3), rel=0.02)


def test_a_slow_tail_is_no_second_kind() -> None:
    calls = np.concatenate([noise.normal(1e5, 2e3, 950), noise.normal(1e6, 1e4, 50)])
    assert two_kinds(calls.astype(np.int64)) is None


@pytest.mark.parametrize(
    ("flags", "elapsed_s", "told"),
    [
        (("avx2", "hypervisor"), 24.0, True),
        (("hypervisor",), 61.0, False),
        (("avx2",), 24.0, False),
    ],
)
def test_a_virtual_machine_that_was_not_watched_for_long(
    flags: tuple[str, ...], elapsed_s: float, told: bool
) -> None:
    here = replace(Environment.read(), cpu_flags=flags)
    found = of_the_whole(here, Sweep(), [], elapsed_s)
    expected = f"a virtual machine was measured for {elapsed_s:.0f} s, and the load of its neigh"
    assert any(expected in each for each in found) is told


def test_intervals_that_are_not_given_have_a_reason() -> None:
    (reason,) = of_counts(2, 40, Closed())
    assert reason == "2 processes are too few for intervals, which take 3: --processes 3"
    (reason,) = of_counts(3, 3, Closed())
    assert reason.startswith("9 rounds are too few for intervals of percentiles, which take 10: ")
    assert of_counts(5, 2, Closed()) == of_counts(3, 0, Closed()) == of_counts(1, 0, Cold()) == ()


@pytest.mark.parametrize(("load", "told"), [(0.5, False), (0.9, False), (1.3, True), (20.0, True)])
def test_more_requests_than_can_be_answered(load: float, told: bool) -> None:
    """The queue grows until a round ends, so that its figures say how long that is."""
    random = np.random.default_rng(0)
    shape = (3, 12, 200)
    arrivals = random.exponential(1e5 / load, shape).cumsum(axis=2)
    took = random.uniform(0.8e5, 1.2e5, shape)
    answered, latency = np.zeros(shape[:2]), np.zeros(shape)
    for call in range(shape[2]):
        answered = np.maximum(answered, arrivals[..., call]) + took[..., call]
        latency[..., call] = answered - arrivals[..., call]
    rounds = latency.astype(np.int64)
    found = of_figures(rounds, OpenLoop("poisson", 1e4 * load))
    assert any("requests came faster than they were answered" in each for each in found) == told
    assert not any("requests came" in each for each in of_figures(rounds, Closed()))
