"""Numbers that are made of sizes are Python's in ONNX, at every size."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import Range


class Scales(nn.Module):
    """Of 90 rows 0.7 is 62.99999999999999 in Python, and 63 in float32."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        rows, columns = x.shape[2:]
        size = int(rows * 0.7), round(columns * 0.3)
        smaller = functional.interpolate(x, size=size, mode="bilinear")
        longer = x.new_ones(math.ceil(columns / 0.7)) * (rows * 0.7)
        apart = x.mean() + torch.arange(0, columns, 0.7)
        fraction = x.mean() + torch.arange(0.1, rows * 1.1)  # 90 * 1.1 is a little more than 99
        return smaller, longer, apart, fraction, x.mean() * (rows / columns)


def _apart(count: int) -> Tensor:
    return torch.arange(0, count, 0.7, dtype=torch.float64)


class Wide(nn.Module):
    """In float64 nothing is rounded to float32."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        smaller = functional.interpolate(x, scale_factor=0.7, mode="bilinear")
        return smaller, x.mean() * (x.shape[2] * 0.7), _apart(x.shape[2])


def check(module: nn.Module, dtype: torch.dtype, tolerance: float, folder: Path) -> None:
    free = {"x": {2: "rows", 3: "columns"}}
    ranges = {"rows": Range(8), "columns": Range(8)}
    example = torch.randn(1, 2, 12, 10, dtype=dtype)
    source = deploy.source_of("scales", module.eval(), example, free, ranges)
    with quiet():
        onnx_export.dynamo(source, folder, negotiate())
    with runtimes.open(folder / "model.onnx") as session:
        for rows, columns in ((90, 21), (170, 42), (180, 84), (40, 161), (8, 49)):
            x = torch.randn(1, 2, rows, columns, dtype=dtype)
            found = session.run({"x": x.numpy()})
            for answer, expected in zip(found.values(), module(x), strict=True):
                np.testing.assert_allclose(answer, expected.numpy(), rtol=0, atol=tolerance)


def test_sizes_are_those_of_python(tmp_path: Path) -> None:
    check(Scales(), torch.float32, 1e-3, tmp_path)


@pytest.mark.slow
def test_in_float64_they_are_not_rounded(tmp_path: Path) -> None:
    check(Wide(), torch.float64, 1e-10, tmp_path)
