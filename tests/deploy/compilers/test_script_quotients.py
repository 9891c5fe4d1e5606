"""Quotients of whole numbers are rounded down in ONNX, by whatever route."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers import onnx_export
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import Range


class Quotients(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        rows = x.shape[0]
        up, by_negative = -(-rows // 3), -(rows // -7)
        whole = (x * 10).long()
        less = (20 - rows) // 6
        return [
            x.new_zeros(up),
            x.new_zeros(by_negative),
            x.new_zeros(rows // 4),
            x.new_ones(1) * less,
            whole // 3,
            whole.int() // -3,
            x // 0.7,
        ]


@pytest.mark.parametrize(
    "route",
    [
        onnx_export.dynamo,
        onnx_export.converted,
        onnx_export.legacy_script,
        onnx_export.legacy_trace,
    ],
)
def test_quotients_are_rounded_down(route: Any, tmp_path: Path) -> None:
    module = Quotients().eval()
    free = {"x": {0: "rows"}}
    source = deploy.source_of("m", module, torch.randn(6, 4), free, {"rows": Range(3)})
    with quiet():
        route(source, tmp_path, negotiate())
    with runtimes.open(tmp_path / "model.onnx") as session:
        for rows in (3, 4, 5, 7, 20, 25, 31, 90):
            x = torch.randn(rows, 4)
            found = session.run({"x": x.numpy()})
            for answer, expected in zip(found.values(), module(x), strict=True):
                assert answer.dtype == expected.numpy().dtype
                np.testing.assert_array_equal(answer, expected.numpy())
