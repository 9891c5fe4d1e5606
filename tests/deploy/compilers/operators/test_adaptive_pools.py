"""Adaptive pooling of free sizes, and to free sizes."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy import source_of
from edgeport.deploy.compilers.capture import program
from edgeport.runtimes import Range


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


class Levels(nn.Module):
    """As of super-resolution (SAFMN): as many windows as a share of the size."""

    def forward(self, x: Tensor) -> list[Tensor]:
        height, width = x.shape[-2:]
        small = functional.adaptive_max_pool2d(x, (height // 2, width // 4))
        large = functional.interpolate(small, size=(height, width), mode="nearest")
        row = functional.adaptive_max_pool1d(x[:, :, 0], width // 2)
        frames = functional.adaptive_max_pool3d(x.unsqueeze(2), (1, height // 2, 3))
        return [large, row, frames, *functional.adaptive_max_pool2d(x, (width // 3, 2), True)]


@pytest.mark.slow
def test_as_many_windows_as_a_free_size_tells() -> None:
    ranges = {"height": Range(8, 48), "width": Range(8, 48)}
    free = {"x": {0: "batch", 2: "height", 3: "width"}}
    source = source_of("net", Levels(), {"x": torch.randn(2, 3, 12, 16)}, free, ranges=ranges)
    captured = program.capture(source).module()
    for height, width in ((8, 8), (17, 31), (48, 33)):
        x = torch.randn(3, 3, height, width)
        for found, expected in zip(captured(x), Levels()(x), strict=True):
            assert torch.equal(found, expected)
