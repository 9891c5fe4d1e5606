import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy import make_call, make_source
from edgeport.deploy.proof.reference import Reference, make_golden
from edgeport.runtimes import Range, SourceError, TensorSpec
from edgeport.runtimes.bundles.golden import Golden

COUNTER: Iterator[int] = itertools.count()


class Block(nn.Module):
    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 5)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.linear(x))  # type: ignore[no-any-return]  # torch says Any


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class FromNumpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.random.default_rng().random())


class FromOutside(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + next(COUNTER)


class RunningMean(nn.Module):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(x.mean(0))
        return x - self.mean


class Counter(nn.Module):
    def __init__(self, late: int) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.late = late

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        return x * max(self.late, len(self.calls))


class Remembers(nn.Module):
    """Keeps its last answer and a table that grows: neither changes an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.zeros(0)
        self.last: Tensor | None = None
        self.whole = {"self": self.__dict__}  # leads to itself

    def forward(self, x: Tensor) -> Tensor:
        if len(self.table) < len(x):
            self.table = torch.arange(len(x)).float()
        self.last = x * self.table[: len(x), None]
        return self.last


def golden(module: nn.Module, *, training: bool = False) -> tuple[Golden, ...]:
    spec = TensorSpec("x", "float32", ("batch", 5))
    call = make_call(module, (), {"x": torch.zeros(3, 5)})
    ranges = {"batch": Range(2)}
    source = make_source(
        "m", module.train(training), call, [spec], ranges, keep_training_mode=training
    )
    return make_golden(Reference(source))


EVAL = "export its eval mode, which turns dropout off: leave --keep-training-mode out"
AS_INPUT = "draw them outside, and take them as an input of forward"
NO_SEED = "remove what no seed of torch governs"
STATE = "take it as an input of forward and return it as an output"


@pytest.mark.parametrize(
    ("last", "problem", "remedy"),
    [
        (nn.Dropout(0.5), r"aten::\w+ in 0\.last \(Dropout\) .* draws random numbers", EVAL),
        (Noise(), r"aten::rand_like in 0\.last \(Noise\) \(.*x \+ torch\.rand", AS_INPUT),
        (FromNumpy(), r"two runs on one input differ, first in 0\.last \(FromNumpy\)", NO_SEED),
        (FromOutside(), r"two runs on one input differ, first in 0\.last", NO_SEED),
        (RunningMean(), r"keeps state: .* through 0\.last\.mean\n", STATE),
        (Counter(0), r"keeps state: .* through 0\.last\.calls\n", STATE),
        (Counter(6), r"keeps state: .* through 0\.last\.calls\n", STATE),
    ],
)
def test_who_is_to_blame_is_named(last: nn.Module, problem: str, remedy: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(Block(last), nn.ReLU(), Block(nn.Identity()))
    with pytest.raises(SourceError, match=problem) as caught:
        golden(module, training=isinstance(last, nn.Dropout))
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize("module", [Remembers(), nn.BatchNorm1d(5)])
def test_state_that_changes_no_answer_is_allowed(module: nn.Module) -> None:
    assert len(golden(module, training=True)) >= 5


def test_a_module_may_write_into_its_input() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2)

    assert golden(InPlace())


def test_looking_costs_a_few_runs() -> None:
    class Slow(nn.Module):
        runs = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).runs += 1
            time.sleep(0)
            return x.sin()

    made = len(golden(Slow()))
    # sizes, eager and oracle of each; two shapes, two and one again; whether it orders values,
    # and whether they decide lengths; six moved of four edge cases
    assert Slow.runs <= 3 * made + 5 + 2 + 24
