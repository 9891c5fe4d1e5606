"""Rows, each multiplied with the matrix of its expert."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.operators import experts

_grouped: Any = torch.nn.functional.grouped_mm  # its types are of torch 2.13 alone


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Linear(8, 4)
        self.matrices = nn.Parameter(torch.randn(4, 8, 12))

    def forward(self, x: Tensor) -> Tensor:
        expert = self.gate(x).argmax(-1)
        order = expert.argsort(stable=True)
        ends = nn.functional.one_hot(expert, 4).sum(0).cumsum(0).to(torch.int32)
        y = _grouped(x[order], self.matrices, offs=ends)
        return torch.zeros_like(y).index_copy(0, order, y)


def test_experts_in_every_format(tmp_path: Path) -> None:
    module = Experts().eval()
    made = deploy.export(
        module, {"x": torch.randn(5, 8)}, tmp_path / "m.edge", dimensions={"x": {0: "rows"}}
    )
    x = torch.randn(11, 8)
    for backend in made.bundle.backends_on("cpu"):
        with runtimes.open(tmp_path / "m.edge", backend) as session:
            found = session.run({"x": x.numpy()})["output"]
        torch.testing.assert_close(torch.tensor(found), module(x))


def test_what_is_no_product_of_rows_by_expert_is_left_to_torch() -> None:
    stacks = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    assert experts.grouped_product(*stacks) is NotImplemented


@torch.library.custom_op("transformers::grouped_mm_fallback", mutates_args=())
def fallback(rows: Tensor, matrices: Tensor, offs: Tensor) -> Tensor:
    return rows.new_zeros(rows.shape[0], matrices.shape[-1])  # torch's own takes its place


@fallback.register_fake
def _shape(rows: Tensor, matrices: Tensor, offs: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], matrices.shape[-1])


class Falls(nn.Module):
    def forward(self, x: Tensor, matrices: Tensor, ends: Tensor) -> Tensor:
        y: Any = fallback(x, matrices, ends)
        return y  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:.*:FutureWarning")
def test_torchs_operator_stands_for_that_of_transformers() -> None:
    x, matrices, ends = torch.randn(5, 8), torch.randn(2, 8, 12), torch.tensor([2, 5]).int()
    captured = torch.export.export(Falls(), (x, matrices, ends))
    experts.of_torch(captured)
    expected = torch.cat([x[:2] @ matrices[0], x[2:] @ matrices[1]])
    torch.testing.assert_close(captured.module()(x, matrices, ends), expected)
