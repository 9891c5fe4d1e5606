"""Adaptive pooling of free sizes, through torch's ONNX exporter."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy


class Pools(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        frames = torch.stack([x, x.flip(-1), x * 2], 2)  # (N, C, D, H, W)
        return [
            *functional.adaptive_max_pool1d(x[:, :, 0], 3, return_indices=True),
            *functional.adaptive_max_pool2d(x, (2, 3), return_indices=True),
            *functional.adaptive_max_pool3d(frames, (2, 1, 3), return_indices=True),
            functional.adaptive_max_pool2d(x, 1),
            functional.adaptive_avg_pool3d(frames, (2, 1, 3)),
        ]


@pytest.mark.slow
def test_free_sizes_in_onnx(tmp_path: Path) -> None:
    made = deploy.export(
        Pools(), {"x": torch.randn(2, 3, 7, 11)}, tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {0: "batch", 2: "height", 3: "width"}},
    )  # fmt: skip  # one call
    assert made.report.passed
