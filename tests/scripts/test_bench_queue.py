"""What the queue of a model promises, in simulated time."""

import pytest

from scripts.bench_queue import CASES, simulate


@pytest.mark.parametrize(
    "name", ["flat", "flat, 3 times as many", "10 ms and 0.1 a row", "stall of 50 ms"]
)
def test_nobody_is_refused_without_need(name: str) -> None:
    outcome = simulate(CASES[name])
    assert len(outcome.waits_s) == outcome.asked > 2000


def test_slow_runs_now_and_then_refuse_few() -> None:
    outcome = simulate(CASES["every tenth run slow"])
    assert outcome.shed + outcome.dropped + outcome.late < 0.03 * outcome.asked


@pytest.mark.parametrize("name", ["overload", "overload, no batches"])
def test_under_overload_promises_are_kept_and_no_time_is_lost(name: str) -> None:
    case = CASES[name]
    outcome = simulate(case)
    assert outcome.dropped == 0
    assert outcome.late < 0.005 * len(outcome.waits_s)
    capacity = case.seconds / (0.02 * (1 + case.spread))
    assert len(outcome.waits_s) > 0.98 * capacity


def test_the_same_case_comes_again() -> None:
    case = CASES["overload, noisy"]
    assert simulate(case, 1) == simulate(case, 1) != simulate(case, 2)
