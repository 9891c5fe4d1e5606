import gc
import time
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.bench.measure import (
    COLD_CALLS,
    FEWEST_ROUNDS,
    MOST_CALLS,
    MOST_ROUNDS,
    SETTLE_NS,
    Run,
    measure,
    plan,
)
from edgeport.runtimes.inputs import Array

INPUTS = {"x": np.zeros(1, np.float32)}


def sleeper(seconds: float) -> Run:
    return lambda inputs: time.sleep(seconds)


class Recorder:
    """Callables that note who was called, with collections on or off."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []
        self.orders: list[list[str]] = []

    def run(self, name: str) -> Run:
        def run(inputs: Mapping[str, Array]) -> None:
            assert inputs is INPUTS
            self.calls.append((name, gc.isenabled()))

        return run

    def end_round(self, done: int, planned: int) -> None:
        names = [name for name, _ in self.calls]
        if done == 0:
            return
        assert done == len(self.orders) + 1 <= planned
        latest = dict.fromkeys(reversed(names))  # by their last call, latest first
        self.orders.append(list(reversed(latest)))


latencies = st.dictionaries(st.sampled_from("abc"), st.floats(100, 1e10), min_size=1, max_size=3)


@given(latencies, st.integers(10**6, 10**11))
def test_a_plan_fits_its_budget_or_is_the_smallest(
    latency_ns: dict[str, float], budget_ns: int
) -> None:
    rounds, calls = plan(latency_ns, budget_ns)
    assert FEWEST_ROUNDS <= rounds <= MOST_ROUNDS
    assert calls.keys() == latency_ns.keys()
    slice_ns = budget_ns / rounds / len(latency_ns)
    for name, latency in latency_ns.items():
        assert 1 <= calls[name] <= MOST_CALLS
        assert calls[name] == 1 or max(SETTLE_NS, latency) + calls[name] * latency <= slice_ns + 1


def test_every_callable_is_timed_in_every_round() -> None:
    result = measure({"a": sleeper(0.001), "b": sleeper(0.002)}, INPUTS, budget_s=0.5)
    assert list(result.rounds_ns) == ["a", "b"]
    assert len(result.rounds_ns["a"]) == len(result.rounds_ns["b"]) >= 2
    assert result.rounds_ns["a"].min() >= 1_000_000
    assert result.rounds_ns["b"].min() >= 2_000_000
    assert all(len(warmup) > COLD_CALLS for warmup in result.warmup_ns.values())


def test_warm_up_and_settling_are_not_counted() -> None:
    recorder = Recorder()
    result = measure({"a": recorder.run("a")}, INPUTS, budget_s=0.2)
    counted, warmup = result.rounds_ns["a"], result.warmup_ns["a"]
    assert len(recorder.calls) > counted.size + len(warmup)
    uncollected = sum(not collecting for _, collecting in recorder.calls)
    assert uncollected == counted.size + COLD_CALLS  # everything else ran with collections on


def test_rounds_are_in_random_order_that_the_seed_decides() -> None:
    def orders(seed: int) -> list[list[str]]:
        recorder = Recorder()
        runs = {name: recorder.run(name) for name in "abc"}
        measure(runs, INPUTS, budget_s=0.4, seed=seed, on_round=recorder.end_round)
        return recorder.orders

    first, again, other = orders(1), orders(1), orders(2)
    n = min(len(first), len(again), len(other))
    assert n >= 2
    assert first[:n] == again[:n]
    assert len({tuple(order) for order in first + other}) > 1
    assert all(sorted(order) == ["a", "b", "c"] for order in first)


def test_rounds_of_quick_calls_are_spread_over_the_budget() -> None:
    recorder = Recorder()
    result = measure({"a": recorder.run("a")}, INPUTS, budget_s=1)
    assert result.rounds_ns["a"].size <= MOST_ROUNDS * MOST_CALLS
    assert result.elapsed_s > 0.8


def test_a_run_over_its_budget_ends_after_two_rounds() -> None:
    result = measure({"slow": sleeper(0.02)}, INPUTS, budget_s=0.001)
    assert result.rounds_ns["slow"].shape == (2, 1)


def test_collections_are_on_again_after_an_error() -> None:
    def fail(inputs: Mapping[str, Array]) -> None:
        raise RuntimeError("the engine failed")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="the engine failed"):
        measure({"a": fail}, INPUTS, budget_s=0.1)
    assert gc.isenabled()
