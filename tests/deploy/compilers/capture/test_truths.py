from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from edgeport import deploy
from edgeport.deploy.compilers.capture.one_way import runnable
from edgeport.deploy.compilers.capture.recorded import with_values
from edgeport.deploy.compilers.operators.fx_nodes import nodes_of
from edgeport.deploy.compilers.upstream import quiet

aten: Any = torch.ops.aten


class Asks(nn.Module):
    """Of what has axes, of what is not, and of a number's truth."""

    def forward(self, x: Tensor) -> Tensor:
        try:
            if x.max(1, keepdim=True).values.max(0, keepdim=True).values > 1:
                x = x * 2
            if not (x < -8).any():
                x = x + 1
        except KeyError:
            pass
        return x


class Computes(nn.Module):
    """With the truth that it asks for."""

    def forward(self, x: Tensor) -> Tensor:
        is_large = (x.max() > 1).item()
        try:
            if is_large:
                x = x * 2
        except KeyError:
            pass
        return x + is_large


def recorded(module: nn.Module) -> ExportedProgram:
    x = torch.rand(2, 3)
    samples = [torch.tensor([[low, 0.0, high]]) for low in (0.0, -9.0) for high in (0.5, 5.0)]
    source = deploy.source_of("m", module, {"x": x}, {"x": {0: "rows"}}, samples=samples)
    with quiet():
        return with_values(source).program


@pytest.mark.usually("module1")
@pytest.mark.parametrize("module", [Asks(), Computes()])
def test_all_ways_are_answered(module: nn.Module) -> None:
    run = runnable(recorded(module))
    torch.manual_seed(1)
    for scale in (0.1, 1.0, 3.0, 30.0):
        for rows in (1, 2, 5):
            x = scale * torch.randn(rows, 3)
            torch.testing.assert_close(run(x)[0], module(x))


def targets(program: ExportedProgram) -> Sequence[Any]:
    return [node.target for node in nodes_of(program.graph_module)]


def test_a_condition_makes_no_number() -> None:
    found = targets(recorded(Asks()))
    assert torch.ops.higher_order.cond in found
    for number in (aten.item.default, torch.sym_ite, aten._assert_scalar.default):
        assert number not in found


def test_a_number_that_forward_computes_with_stays() -> None:
    assert aten.item.default in targets(recorded(Computes()))
