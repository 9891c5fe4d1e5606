import math

import pytest
import torch
from torch import Tensor, nn

from edgeport.runtimes import UsageError
from edgeport.training import DataSet, Settings, fit
from edgeport.training.fitting import largest_stable_step, range_test


def features(data: DataSet) -> torch.Tensor:
    x = torch.tensor(data.train.inputs["input"])
    return torch.cat([x, torch.ones(len(x), 1)], 1)


@pytest.mark.parametrize(("times", "converges"), [(0.98, True), (1.02, False)])
def test_the_largest_stable_step_is_the_border(
    line: DataSet, times: float, converges: bool
) -> None:
    step = largest_stable_step(features(line)) * times
    module = nn.Linear(2, 1)
    nn.init.ones_(module.weight)
    settings = Settings(150, None, step, optimizer="SGD", schedule="constant")
    costs = [epoch.cost for epoch in fit(module, line, settings).epochs]
    assert (costs[-1] < costs[75]) is converges
    assert (costs[-1] < 0.02) is converges


@pytest.mark.parametrize("classes", [None, 3])
def test_a_decay_adds_to_the_curvature(line: DataSet, classes: int | None) -> None:
    x = features(line)
    without = largest_stable_step(x, classes=classes)
    assert largest_stable_step(x, classes=classes, decay=2.5) == pytest.approx(
        2 / (2 / without + 2.5)
    )


def test_of_classes_it_is_four_times_as_large(line: DataSet) -> None:
    x = features(line)
    assert largest_stable_step(x, classes=3) == pytest.approx(4 * largest_stable_step(x))


def test_a_range_test_finds_a_rate_that_trains(line: DataSet) -> None:
    torch.manual_seed(0)
    module = nn.Linear(2, 1)
    before = module.weight.detach().clone()
    settings = Settings(1, 10, 1.0, optimizer="SGD")
    found = range_test(module, line, settings)
    assert torch.equal(module.weight, before)
    assert list(found.rates) == sorted(found.rates)
    assert all(map(math.isfinite, found.costs))
    assert found.costs[-1] > 4 * min(found.costs) or len(found.rates) == 100
    assert found.suggested is not None
    assert 1e-3 < found.suggested < 0.5
    trained = fit(module, line, Settings(30, 10, found.suggested, optimizer="SGD"))
    assert trained.epochs[-1].cost < 0.1 * trained.epochs[0].cost


def test_where_nothing_is_learned_no_rate_is_suggested(line: DataSet) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.bias, -1e4)
    dead = nn.Sequential(layer, nn.ReLU())
    assert range_test(dead, line, Settings(1, 10, 1.0, optimizer="SGD")).suggested is None
    assert range_test(dead, line, Settings(1, None, 1.0, optimizer="SGD")).suggested is None
    steep = nn.Sequential(nn.Linear(2, 1), _Times(1e4))  # diverges at the lowest rate
    assert range_test(steep, line, Settings(1, 10, 1.0, optimizer="SGD")).suggested is None


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def test_what_makes_no_sense(line: DataSet) -> None:
    with pytest.raises(UsageError, match=r"a range from 1 to 0\.1 in 100 steps"):
        range_test(nn.Linear(2, 1), line, Settings(1, 10, 1.0), low=1, high=0.1)
    with pytest.raises(UsageError, match="LBFGS searches its own step"):
        range_test(nn.Linear(2, 1), line, Settings(1, 10, 1.0, optimizer="LBFGS"))
