"""A layer that is moved to where it is, in forward."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.capture import program
from edgeport.deploy.compilers.upstream import quiet


class Routes(nn.Module):
    def __init__(self, *given: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.given = given

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer.to(*self.given)(x)
        return y


@pytest.mark.parametrize("given", [torch.float32, "cpu", torch.zeros(2)])
def test_it_stays(given: Any) -> None:
    module = Routes(given)
    source = deploy.source_of("m", module, {"x": torch.randn(2, 4)}, {"x": {0: "rows"}})
    with quiet():
        run: Any = program.capture(source).module()
    x = torch.randn(5, 4)
    torch.testing.assert_close(run(x)[0], module(x))
