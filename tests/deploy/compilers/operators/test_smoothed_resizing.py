"""Images that are smoothed as they are resized have torch's pixels, from every size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.operators.smoothed_resizing import TABLE
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import Range


class Smoothed(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [
            functional.interpolate(x, scale_factor=factor, mode=mode, antialias=True)
            for factor in (0.5, (0.7, 1.3), (1 / 3, 2.0))
            for mode in ("bilinear", "bicubic")
        ]


@pytest.mark.slow
def test_pixels_are_smoothed_as_torch_does(tmp_path: Path) -> None:
    module = Smoothed().eval()
    free = {"x": {2: "height", 3: "width"}}
    ranges = {"height": Range(8), "width": Range(8)}
    example = torch.randn(1, 2, 20, 24)
    source = deploy.source_of("m", module, example, free, ranges)
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate())
    with runtimes.open(tmp_path / "model.onnx") as session:
        for height, width in [(8, 9), (9, 8), (11, 30), (21, 90), (33, 47), (90, 13)]:
            x = torch.randn(1, 2, height, width)
            found = session.run({"x": x.numpy()})
            for answer, expected in zip(found.values(), module(x), strict=True):
                np.testing.assert_allclose(answer, expected.numpy(), atol=3e-5)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("factors", [(1.0, 1.1), (1.3, 1.1), (2.0, 0.7)])
def test_as_many_pixels_as_before_are_the_same_ones(mode: str, factors: tuple[float, ...]) -> None:
    """5 by 1.1 are 5."""
    (operator,) = (each for each in TABLE if mode in str(each))
    for columns in range(5, 10):
        x = torch.randn(1, 2, 7, columns)
        found = TABLE[operator](x, None, False, [*factors])
        expected = functional.interpolate(x, scale_factor=factors, mode=mode, antialias=True)
        torch.testing.assert_close(found, expected, rtol=0, atol=3e-5)
