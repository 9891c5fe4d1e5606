"""A loop that ends where nothing changes any more is a loop in the file."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.scripted.converter import convert
from edgeport.deploy.compilers.upstream import quiet


class Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            half = (x / 2).trunc()
            if torch.equal(half, x):
                break
            x = half
        return x - 1


class Settles(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            root = (x + 1 / x) / 2
            if torch.allclose(root, x, atol=0.1):
                break
            x = root
        return x


@pytest.mark.parametrize("module", [Halves(), Settles()])
def test_a_script_ends_where_nothing_changes(module: nn.Module) -> None:
    source = deploy.source_of("m", module, {"x": torch.rand(3, 4)}, {"x": {0: "rows"}})
    with quiet():
        run: Any = convert(source).module()
    for far in (0.01, 1.0, 3.0, 100.0):
        x = torch.rand(5, 4) * far
        torch.testing.assert_close(run(x)[0], module(x))
