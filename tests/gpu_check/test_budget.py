import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.gpu_check.budget import MOST_MINUTES, Budget
from edgeport.gpu_check.rows import STAGES
from edgeport.runtimes import UsageError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("minutes", "soak_s"), [(10, 180), (34, 600), (60, 600)])
def test_the_soak_has_three_tenths_and_at_most_ten_minutes(minutes: float, soak_s: float) -> None:
    assert Budget.start(minutes).soak_s == pytest.approx(soak_s, abs=13)


@given(st.floats(0.1, MOST_MINUTES))
def test_every_stage_leaves_time_for_what_follows(minutes: float) -> None:
    clock = Clock()
    budget = Budget.start(minutes, clock)
    ends = [budget.left_s(stage) for stage in STAGES]
    assert ends == sorted(ends)
    assert ends[0] > 0
    assert ends[-1] == pytest.approx(60 * minutes)
    assert ends[-1] - ends[-2] == pytest.approx(budget.soak_s)
    clock.now += 60 * minutes
    assert budget.left_s("soak") == pytest.approx(0, abs=1e-6)
    assert budget.left_s("parity") < 0


def test_nothing_takes_longer_than_a_minute_beyond_the_time() -> None:
    clock = Clock()
    budget = Budget.start(10, clock)
    assert budget.limit_s(300) == 300
    clock.now += 590
    assert budget.limit_s(300) == pytest.approx(70)
    clock.now += 1000
    assert budget.limit_s(300) == 60


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf"), 1e6])
def test_a_time_that_makes_no_sense_is_refused(minutes: float) -> None:
    with pytest.raises(UsageError, match=r"--minutes is ") as e:
        Budget.start(minutes)
    assert e.value.remedy == "give a time from 0.1 to 1440"
