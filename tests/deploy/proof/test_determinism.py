import cProfile
import datetime
import itertools
import pstats
import re
import statistics
import time
from collections.abc import Iterator
from typing import Any

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


class Smoothed(nn.Module):
    """Its state is a plain attribute, also in TorchScript."""

    def __init__(self) -> None:
        super().__init__()
        self.state = torch.zeros(5)

    def forward(self, x: Tensor) -> Tensor:
        self.state = 0.9 * self.state + x.mean(0)
        return x - self.state


class Counter(nn.Module):
    def __init__(self, late: int) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.late = late

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        return x * max(self.late, len(self.calls))


class CountsRare(nn.Module):
    """Its answers to few inputs hang on how many there were."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * self.count if x.abs().max() > 5 else x


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


class Resizes(nn.Module):
    """Keeps its last answer in a buffer, as large as it is."""

    last: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.last.resize_(x.shape).copy_(x)


class ByShape(nn.Module):
    """Keeps what it saw first of each size."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] not in self.seen:
            self.seen[x.shape[0]] = x.mean()
        return x - self.seen[x.shape[0]]


class Scale:
    first: Tensor | None = None


class ByFirst(nn.Module):
    """Divides by what it saw first."""

    def __init__(self) -> None:
        super().__init__()
        self._first: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._first is None:
            self._first = x.abs().max()
        return x / self._first


class ByFirstOutside(nn.Module):
    """Keeps it in an object of which nothing is known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = Scale()

    def forward(self, x: Tensor) -> Tensor:
        if self.scale.first is None:
            self.scale.first = x.abs().max()
        return x / self.scale.first


def decay(length: int) -> Tensor:
    return torch.arange(1.0, 5 * length + 1).reshape(length, 5) ** 0.3


class Growing(nn.Module):
    """A table as long as the longest input yet: its length decides how its values are rounded."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.zeros(0, 5)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.table) < len(x):
            self.table = decay(len(x))
        return x + self.table[: len(x)]


class Sampled(nn.Module):
    """Two draws seldom differ."""

    def forward(self, x: Tensor) -> Tensor:
        weights = (x * 0 + torch.tensor([30.0, 0, 0, 0, 29])).softmax(1)
        return x * torch.multinomial(weights, 1)


class Rare(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() > 1e9, torch.randn_like(x), x)


class OnEdges(nn.Module):
    """Draws where the example, of zeros, does not."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() > 50, torch.randn_like(x), x)


class InABranch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x) if x.abs().max() > 50 else x


class Seeded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return x + torch.randn(5)


class Clock(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        year = datetime.datetime.now(tz=datetime.UTC).year
        return x * year + 0 * time.time()


def golden(module: nn.Module, *, training: bool = False) -> tuple[Golden, ...]:
    spec = TensorSpec("x", "float32", ("batch", 5))
    call = make_call(module, (), {"x": torch.zeros(3, 5)})
    ranges = {"batch": Range(2)}
    source = make_source(
        "m", module.train(training), call, [spec], ranges, keep_training_mode=training
    )
    return make_golden(Reference(source))


def noted(module: nn.Module) -> list[str]:
    spec = TensorSpec("x", "float32", (3, 5))
    reference = Reference(
        make_source("m", module, make_call(module, (), {"x": torch.zeros(3, 5)}), [spec], {})
    )
    make_golden(reference)
    return reference.notes


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
        (Smoothed(), r"keeps state: .* through 0\.last\.state\n", STATE),
        (Counter(0), r"keeps state: .* through 0\.last\.calls\n", STATE),
        (Counter(6), r"keeps state: .* through 0\.last\.calls\n", STATE),
        (CountsRare(), r"keeps state: .* through 0\.last\.count\n", STATE),
        (ByShape(), r"keeps state: .* through 0\.last\.seen\n", STATE),
        (ByFirst(), r"keeps state: .* through 0\.last\._first\n", STATE),
        (ByFirstOutside(), r"keeps state: .* through something outside of its attributes\n", STATE),
        (Sampled(), r"aten::multinomial in 0\.last \(Sampled\) .* draws random numbers", AS_INPUT),
    ],
)
def test_who_is_to_blame_is_named(last: nn.Module, problem: str, remedy: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(Block(last), nn.ReLU(), Block(nn.Identity()))
    with pytest.raises(SourceError, match=problem) as caught:
        golden(module, training=isinstance(last, nn.Dropout))
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_script_that_keeps_state_is_told_with_its_attribute() -> None:
    scripted: Any = torch.jit.script(nn.Sequential(nn.Linear(5, 5), Smoothed()))
    with pytest.raises(SourceError, match=r"keeps state: .* through 1\.state\n"):
        golden(scripted)


def test_power_iteration_goes_on_in_training() -> None:
    module = nn.utils.spectral_norm(nn.Linear(5, 5))
    with pytest.raises(
        SourceError, match=r"keeps state: .* through (weight, )?weight_u, "
    ) as caught:
        golden(module, training=True)
    assert caught.value.remedy.startswith("export its eval mode: leave --keep-training-mode out")
    assert golden(module)


@pytest.mark.parametrize(
    ("module", "operator"), [(Rare(), "aten::randn_like"), (Seeded(), "aten::randn")]
)
def test_draws_that_the_example_does_not_show_are_told(module: nn.Module, operator: str) -> None:
    (told,) = noted(module)
    assert told.startswith(f"{operator} in {type(module).__name__} (")
    assert told.endswith(
        ") draws random numbers: an artefact may draw others, although the answers to the samples "
        "are the same whichever they are; draw them in __init__, and keep them in a buffer, or "
        "take them as an input of forward"
    )


@pytest.mark.parametrize("module", [OnEdges(), InABranch()])
def test_draws_that_one_sample_shows_are_refused(module: nn.Module) -> None:
    with pytest.raises(SourceError, match=r"aten::randn_like in \w+ \(.* draws random numbers"):
        golden(module)


def test_a_table_that_is_longer_next_time_is_no_state() -> None:
    assert not torch.equal(decay(32)[:7], decay(7))
    assert golden(Growing())


def test_dropout_that_is_off_draws_nothing() -> None:
    assert noted(nn.Sequential(nn.Dropout(), nn.RReLU(), nn.Linear(5, 5))) == []


def test_reading_the_clock_is_told() -> None:
    today, now = noted(Clock())
    for told in (today, now):
        assert re.fullmatch(
            r"forward asks the clock \(.*test_determinism\.py:\d+  .*\): if an answer "
            r"hangs on it, artefacts hold what it was at export; take it as an input of forward, "
            r"or read it in __init__",
            told,
        )


def test_a_profiler_that_is_on_stays_on() -> None:
    with cProfile.Profile() as profile:
        noted(Clock())
        statistics.median([1])
    assert {"median", "read_outside"} <= {name for _, _, name in pstats.Stats(profile).stats}  # type: ignore[attr-defined]  # it has them


@pytest.mark.parametrize("module", [Remembers(), Resizes(), nn.BatchNorm1d(5)])
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
    # sizes, eager, oracle and moved inputs of each; two shapes, two and one again; whether it
    # orders or draws values, whether it reads a clock, and whether values decide lengths; six
    # moved of four edge cases; three copies that have not run
    assert Slow.runs <= 4 * made + 5 + 4 + 24 + 3
