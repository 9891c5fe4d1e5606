import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from edgeport.training.fitting.history import SCHEDULES
from edgeport.training.fitting.schedules import factor

PLANNED = 40

TORCH: dict[str, Callable[[Any], Any]] = {
    "constant": lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=PLANNED),
    "linear": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=PLANNED),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / PLANNED)),
}


@pytest.mark.parametrize("name", TORCH)
def test_it_is_what_torch_does(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = TORCH[name](optimizer)
    for step in range(PLANNED):
        expected = optimizer.param_groups[0]["lr"]
        assert 0.5 * factor(name, step, PLANNED, []) == pytest.approx(expected, abs=1e-12)
        optimizer.step()
        schedule.step()


def test_one_cycle_rises_and_falls() -> None:
    rates = [factor("one-cycle", step, 1000, []) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates.index(max(rates)) == 300
    assert max(rates) == 1
    assert rates[-1] < 1e-4
    assert rates[:301] == sorted(rates[:301])
    assert rates[300:] == sorted(rates[300:], reverse=True)


def test_steps_fall_after_each_third() -> None:
    rates = [factor("step", step, 9, []) for step in range(9)]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


@given(st.lists(st.floats(0.01, 10), max_size=60))
def test_a_plateau_is_that_of_torch(costs: list[float]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, eps=0)
    for cost in costs:
        schedule.step(cost)
    assert factor("plateau", 0, 1, costs) == pytest.approx(optimizer.param_groups[0]["lr"])


@given(st.sampled_from(SCHEDULES), st.integers(1, 1000), st.data())
def test_every_factor_is_between_0_and_1(name: str, planned: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, planned - 1))
    found = factor(name, step, planned, [1.0] * 30)
    assert 0 < found <= 1
    assert math.isfinite(found)
