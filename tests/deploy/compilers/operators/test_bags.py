"""Bags of embeddings, as ONNX has them."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.operators.bags import bags

aten: Any = torch.ops.aten

OFFSETS = [[0, 3, 4], [0, 0, 4, 4, 6], [0], [0, 7]]


@pytest.mark.parametrize("offsets", OFFSETS)
@pytest.mark.parametrize("mode", [0, 1, 2])
@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("padding", [None, 2])
def test_bags(offsets: list[int], mode: int, ends: bool, padding: int | None) -> None:
    torch.manual_seed(0)
    weight, indices = torch.randn(5, 3), torch.tensor([0, 2, 2, 4, 1, 2, 3])
    if ends:
        offsets = [*offsets, 7]
    given = (weight, indices, torch.tensor(offsets), False, mode, False)
    for scale in [None, *([torch.rand(7)] if mode == 0 else [])]:
        expected = aten.embedding_bag.padding_idx(*given, scale, ends, padding)[0]
        torch.testing.assert_close(bags(*given, scale, ends, padding)[0], expected)


class Bags(nn.Module):
    """Bags of one length, and bags of others."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.EmbeddingBag(20, 6, mode="mean", padding_idx=3)
        self.greatest = nn.EmbeddingBag(20, 6, mode="max")

    def forward(self, rows: Tensor, flat: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(rows), self.greatest(flat, offsets)


def test_bags_in_onnx_are_no_loop(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = {
        "rows": torch.randint(0, 20, (3, 4)),
        "flat": torch.randint(0, 20, (12,)),
        "offsets": torch.tensor([0, 2, 2, 9]),
    }
    made = deploy.export(
        Bags().eval(), example, tmp_path / "m.edge", formats="onnx",
        dimensions={"rows": {0: "batch", 1: "time"}, "flat": {0: "n"}, "offsets": {0: "bags"}},
    )  # fmt: skip  # one call
    assert made.report.passed
    graph = onnx.load(tmp_path / "m.edge" / "model.onnx").graph
    assert not {"Loop", "SequenceEmpty"} & {node.op_type for node in graph.node}
