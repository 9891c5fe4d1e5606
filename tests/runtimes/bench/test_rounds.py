import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.bench import rounds
from edgeport.runtimes.bench.rounds import (
    FEWEST_ROUNDS,
    MOST_CALLS,
    MOST_ROUNDS,
    OPEN_ROUND,
    SETTLE_NS,
    measure,
    plan,
)
from edgeport.runtimes.bench.setting import Closed, OpenLoop, Paced, Setting, Variant
from edgeport.runtimes.bench.workload import Workload


def variant(name: str) -> Variant:
    return Variant(Setting(Path(name), "null"), Workload(), name)


latencies = st.dictionaries(
    st.sampled_from("abc").map(variant), st.floats(100, 1e10), min_size=1, max_size=3
)


@given(latencies, st.integers(1, 12), st.integers(10**6, 10**11))
def test_a_plan_fits_its_share_or_is_the_smallest(
    latencies_ns: dict[Variant, float], processes: int, share_ns: int
) -> None:
    found = plan(latencies_ns, Closed(), processes, share_ns)
    assert found.rounds * processes >= FEWEST_ROUNDS
    assert (found.rounds - 1) * processes < max(MOST_ROUNDS, FEWEST_ROUNDS)
    assert found.calls.keys() == latencies_ns.keys()
    slice_ns = share_ns / found.rounds / len(latencies_ns)
    for each, latency in latencies_ns.items():
        calls = found.calls[each]
        assert 1 <= calls <= MOST_CALLS
        assert calls == 1 or max(SETTLE_NS, latency) + calls * latency <= slice_ns + 1


def test_pauses_take_their_time() -> None:
    a, share_ns = variant("a"), 10**9
    assert plan({a: 1000.0}, Closed(), 4, share_ns).calls[a] == MOST_CALLS
    found = plan({a: 1000.0}, Paced(10**6), 4, share_ns)
    assert found.calls[a] < MOST_CALLS
    assert found.rounds * found.calls[a] * 10**6 <= share_ns


def test_a_round_of_arrivals_is_long_enough_for_a_queue() -> None:
    a, share_ns = variant("a"), 10**10
    often = plan({a: 1000.0}, OpenLoop("poisson", 10_000), 4, share_ns)
    assert often.calls[a] == MOST_CALLS * OPEN_ROUND
    assert often.rounds == MOST_ROUNDS // OPEN_ROUND // 4
    seldom = plan({a: 1000.0}, OpenLoop("poisson", 100), 4, share_ns)
    assert seldom.rounds * seldom.calls[a] / 100 * 1e9 <= share_ns


@pytest.mark.parametrize(("budget_s", "started"), [(0.001, 3), (60.0, 5)])
def test_calls_that_become_far_slower_end_it_early(
    budget_s: float, started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []

    def generation(_: object, number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    monkeypatch.setattr(rounds._Run, "generation", generation)
    measure([], Closed(), processes=5, fewest=3, budget_s=budget_s, seed=0)
    assert len(done) == started


def test_a_short_benchmark_measures_at_least_as_long_as_it_settles() -> None:
    a = variant("a")
    found = plan({a: 1000.0}, Closed(), 3, 600_000_000)
    assert 600_000_000 / found.rounds >= 2 * SETTLE_NS
