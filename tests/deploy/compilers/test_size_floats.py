"""Numbers that are made of sizes are Python's in ONNX, at every size."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers import onnx_export
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
        return smaller, longer, apart, x.mean() * (rows / columns)


def test_sizes_are_those_of_python(tmp_path: Path) -> None:
    free = {"x": {2: "rows", 3: "columns"}}
    ranges = {"rows": Range(8), "columns": Range(8)}
    source = deploy.source_of("scales", Scales().eval(), torch.randn(1, 2, 12, 10), free, ranges)
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate())
    with runtimes.open(tmp_path / "model.onnx") as session:
        for rows, columns in ((90, 21), (170, 42), (180, 84), (40, 161), (8, 49)):
            x = torch.randn(1, 2, rows, columns)
            found = session.run({"x": x.numpy()})
            for answer, expected in zip(found.values(), Scales()(x), strict=True):
                np.testing.assert_allclose(answer, expected.numpy(), rtol=0, atol=1e-3)
