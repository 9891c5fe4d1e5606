"""Free sizes that can be 1, after convolutions or as they are."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from edgeport import deploy
from edgeport.deploy.compilers.capture import special_sizes
from edgeport.runtimes import EdgeportError, Range

sympy: Any = import_module("sympy")  # neither has types
functions: Any = import_module("torch.utils._sympy.functions")


class Attends(nn.Module):
    """One step of three by three and a half of what is left: the smallest image is one token."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        tokens = y.flatten(2).transpose(1, 2)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        z: Tensor = attended.transpose(1, 2).reshape(y.shape)
        return z


class Shuffles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        z: Tensor = y.view(y.shape[0], 4, 2, *y.shape[2:]).transpose(1, 2).reshape(y.shape)
        return z


class Sums(nn.Module):
    """What attention asks of a number of tokens; of one row the sum is the row."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        rows = y.shape[2]
        return y.cumsum(2) if rows * rows > 1 and 1 % rows != 0 else y


class Listens(nn.Module):
    """Strides of a batch that may be 1 are asked for, beside a time that may be 1 after a step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv1d(3, 8, 3, stride=2, padding=1)
        self.cell = nn.GRU(8, 6, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cell(self.layer(x.flatten(2)).transpose(1, 2))[0].log_softmax(-1)
        return y


class BranchesOnRest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[2] % 8 == 1 else x


class BranchesOnMultiple(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[2] % 8 else x * 2


class FillsUp(nn.Module):
    """Windows of eight; the last one is filled up, and nothing is left of what was filled in."""

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[3]
        if width % 8 != 0:
            x = nn.functional.pad(x, (0, 8 - width % 8))
        windows = x.view(x.shape[0], 3, x.shape[2], -1, 8)
        turned: Tensor = windows.cumsum(-1).flatten(3)[..., :width]
        return turned


class FillsUpPairs(nn.Module):
    """Each second pixel stands for two, as SEW does with sounds; an odd width has one more."""

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.avg_pool2d(x, (1, 2))  # one quotient of the other
        halved = nn.functional.avg_pool2d(x, (1, 2))
        doubled = torch.stack([halved, halved], -1).flatten(3)
        if doubled.shape[3] < x.shape[3]:
            doubled = nn.functional.pad(doubled, (0, x.shape[3] - doubled.shape[3]))
        return doubled


class BranchesOnPairs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[2] // 2 * 2 < x.shape[2] else x * 2


class BranchesOnOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x[:, :, 2:] + 1
        return y * 2 if y.shape[2] == 1 else y * 3


BOTH = ["onnx", "pt2"]


def export(
    module: nn.Module, path: Path, formats: str | list[str], smallest: int
) -> list[tuple[str, str]]:
    torch.manual_seed(0)
    events: list[Any] = []
    deploy.export(
        module.eval(), {"x": torch.randn(2, 3, 20, 30)}, path, formats=formats,
        dimensions={"x": {0: "batch", 2: "height", 3: "width"}},
        ranges={"height": Range(smallest, 64), "width": Range(smallest, 64)},
        on_event=events.append,
    )  # fmt: skip  # one call
    return [(e.route, e.outcome) for e in events if isinstance(e, deploy.Attempt)]


@pytest.mark.slow
def test_strides_of_a_batch_that_may_be_1(tmp_path: Path) -> None:
    assert export(Listens(), tmp_path / "o.edge", "onnx", 1) == [("dynamo", "proved")]


@pytest.mark.usually("Sums")
@pytest.mark.parametrize("make", [Attends, Shuffles, Sums])
def test_the_smallest_image_is_one_value(make: type[nn.Module], tmp_path: Path) -> None:
    tried = export(make(), tmp_path / "m.edge", BOTH, 3)
    assert tried == [("dynamo", "proved"), ("export", "refused"), ("oblivious", "proved")]


@pytest.mark.usually("Pairs")
@pytest.mark.parametrize("make", [FillsUp, FillsUpPairs])
def test_a_branch_that_fills_up_is_taken_where_nothing_is_missing_too(
    make: type[nn.Module], tmp_path: Path
) -> None:
    tried = export(make(), tmp_path / "m.edge", BOTH, 4)
    assert tried == [("dynamo", "proved"), ("export", "refused"), ("oblivious", "proved")]


@pytest.mark.usually("refused")
@pytest.mark.parametrize(
    ("make", "second"),
    [(BranchesOnRest, "refused"), (BranchesOnMultiple, "wrong"), (BranchesOnPairs, "wrong")],
)
def test_a_branch_on_another_size_is_kept(
    make: type[nn.Module], second: str, tmp_path: Path
) -> None:
    tried = export(make(), tmp_path / "p.edge", "pt2", 1)
    assert [outcome for _, outcome in tried] == ["refused", second, second, "proved"]
    assert tried[-1][0] == "script"  # has branches


@pytest.mark.slow
def test_a_branch_on_one_is_seen_by_the_proof(tmp_path: Path) -> None:
    with pytest.raises(EdgeportError, match="oblivious  wrong: torch: output"):
        export(BranchesOnOne(), tmp_path / "p.edge", "pt2", 3)
    assert not (tmp_path / "p.edge").exists()


class Halves(nn.Module):
    """torch asks for what holds for every size, and does not know that it does."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        if self.how == "split":
            first, second = torch.split(x, [half, x.shape[3] - half], 3)
            return torch.cat([second, first], 3)
        if self.how == "narrow":
            return x.narrow(3, 1, half)
        return nn.functional.pad(x, (x.shape[3] // 4, 1, 0, 0), mode="reflect")


@pytest.mark.usually("reflect")
@pytest.mark.parametrize("how", ["split", "narrow", "reflect"])
def test_what_holds_for_every_size_is_known(how: str, tmp_path: Path) -> None:
    tried = export(Halves(how), tmp_path / "m.edge", BOTH, 4)
    assert (tried[0], tried[-1]) == (("dynamo", "proved"), ("oblivious", "proved"))


def test_a_stride_is_the_least_that_it_can_be_with_its_size() -> None:
    """As of windows of 4: the smallest image is one."""
    size: Any = sympy.Symbol("n", integer=True, positive=True)
    count = functions.FloorDiv(size + 3, 4)
    env: Any = SimpleNamespace(
        backed_var_to_val={size: 9}, var_to_range={size: ValueRanges(sympy.Integer(4), int_oo)}
    )
    assert special_sizes._is_least(env, functions.Max(1, count))
    assert not special_sizes._is_least(env, functions.Max(1, count + 1))
    assert not special_sizes._is_least(env, functions.Max(1, 2 - count))  # falls


class RelativePositions(nn.Module):
    """Rows are shifted as in Transformer-XL: nobody knows that what is left of them fits."""

    def forward(self, x: Tensor) -> Tensor:
        time = x.shape[3]
        apart = torch.arange(time - 1, -time, -1.0)
        scores = x[:, :, :1].transpose(2, 3) * apart
        shifted = nn.functional.pad(scores, (1, 0)).view(x.shape[0], 3, -1, time)
        return shifted[:, :, 1:].view(scores.shape)[..., : apart.shape[0] // 2 + 1]


@pytest.mark.slow
def test_relative_positions(tmp_path: Path) -> None:
    tried = export(RelativePositions(), tmp_path / "m.edge", BOTH, 1)
    assert (tried[0], tried[-1]) == (("dynamo", "proved"), ("oblivious", "proved"))


class Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1).sum(1) + x.shape[3]


def test_a_size_that_is_asked_for_its_number_is_none_that_holds_for_all(tmp_path: Path) -> None:
    tried = export(Counts(), tmp_path / "m.edge", "pt2", 4)
    assert tried[-1][1] == "proved"


class Between(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[1] == 6000 else x


class BetweenTwo(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if (x.shape[1] - 5000) * (x.shape[1] - 7000) < 0 else x


class Beyond(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[1] > 3_000_000 else x


class ManyWindows(nn.Module):
    """There is one at least."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[1] // 8 > 5000 else x


class ThatManyWindows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.shape[1] // 8 == 5000 else x


@pytest.mark.usually("Between")
@pytest.mark.parametrize(
    ("kind", "range_"),
    [
        (Between, Range(1)),
        (Between, Range(1, 20_000)),
        (BetweenTwo, Range(1, 20_000)),
        (Beyond, Range(1)),
        (ManyWindows, Range(8)),
        (ThatManyWindows, Range(8)),
    ],
)
def test_a_branch_on_one_of_many_sizes_is_kept(
    kind: type[nn.Module], range_: Range, tmp_path: Path
) -> None:
    events: list[Any] = []
    deploy.export(
        kind(), {"x": torch.randn(2, 9)}, tmp_path / "m.edge", formats="pt2",
        dimensions={"x": {1: "time"}}, ranges={"time": range_}, on_event=events.append,
    )  # fmt: skip  # one call
    tried = [(e.route, e.outcome) for e in events if isinstance(e, deploy.Attempt)]
    assert tried[-1] == ("script", "proved")  # has branches
