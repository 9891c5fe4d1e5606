"""What torch's interpreter of scripts computes otherwise is written out in other operators."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from edgeport import deploy
from edgeport.deploy.compilers import torchscript
from edgeport.deploy.compilers.upstream import quiet

LARGE = [
    torch.tensor([n, 3]) for n in (0, 5, -5, 2**31, -(2**31) - 7, 2**33 + 1, -(2**53) - 1, -(2**62))
]
FLOATS = [torch.tensor([n, 3.5]) for n in (0.7, -0.7, 2.5, -3e9, 3.5)]


class OfItems(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        n = x.min().item()
        return x * 0 + -n, x * 0 + abs(n), x * 0 + math.floor(n), x * 0 + math.ceil(n)


class Masks(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        large, odd = (x > 2) * 1, 0 + (x % 2 == 1)
        return large, large + odd, x * 1, x + 0, (x > 2).mul(1).sum(0)


class Sizes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x.shape[0] / 1)


class Powers(nn.Module):
    """Sorts by two keys, which float32 does not hold."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 10**6 + x % 2**20


def assert_same(made: Any, module: nn.Module, inputs: Sequence[Tensor]) -> None:
    for x in inputs:
        with quiet():
            wanted, found = module(x), torch.jit.freeze(made)(x)
        assert pytree.tree_map(lambda t: (t.dtype, t.tolist()), found) == (
            pytree.tree_map(lambda t: (t.dtype, t.tolist()), tuple(wanted))
            if isinstance(wanted, tuple)
            else ((wanted.dtype, wanted.tolist()),)
        )


@pytest.mark.parametrize("inputs", [LARGE, FLOATS], ids=["int64", "float32"])
@pytest.mark.parametrize("module", [OfItems(), Masks(), Sizes()], ids=lambda m: type(m).__name__)
def test_a_script_computes_it_so(module: nn.Module, inputs: list[Tensor]) -> None:
    source = deploy.source_of("m", module.eval(), {"x": inputs[0]})
    with quiet():
        made = torchscript.scripted(source, source.flat)
    assert_same(made, module, inputs)


def test_a_power_is_a_whole_number() -> None:
    inputs = LARGE[:-2]
    source = deploy.source_of("m", Powers().eval(), {"x": inputs[0]})
    with quiet():
        made = torchscript.scripted(source, source.flat)
    assert_same(made, Powers(), inputs)


def test_a_trace_counts_masks() -> None:
    source = deploy.source_of("m", Masks().eval(), {"x": FLOATS[0]})
    with quiet():
        made = torchscript.traced(source, source.flat)
    assert_same(made, Masks(), FLOATS)


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        whole, left = divmod(x.min().item(), 3)
        return x * whole + left


class Takes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        left = [3, 2, 1]
        return x + len(left) if 0 < left.pop() < 5 else x


class Keeps(nn.Module):
    """Lists that are returned in another one, and that a branch writes into."""

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        kept = [[x, x + 1] for _ in range(2)]
        if bool(x.max() > 2):
            kept[0][0] = x * 3
        return kept


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (Keeps(), "torch.jit loses what is written"),
        (Halves(), r"torch.jit makes a whole number of what item\(\) gives"),
        (Takes(), r"torch.jit computes 'left.pop\(\)' twice"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_cannot_be_written_out_is_no_script(module: nn.Module, told: str) -> None:
    source = deploy.source_of("m", module.eval(), {"x": FLOATS[0]})
    with quiet(), pytest.raises(NotImplementedError, match=told):
        torchscript.scripted(source, source.flat)
