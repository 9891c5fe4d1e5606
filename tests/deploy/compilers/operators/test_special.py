"""Special functions, through torch's ONNX exporter."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy


class Special(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        special = torch.special
        return [
            special.i1(x), special.i1e(x), special.erfcx(x), special.log_ndtr(x),
            torch.polygamma(1, x), torch.mvlgamma(x.abs() + 2, 2),
        ]  # fmt: skip  # a table


@pytest.mark.slow
def test_special_functions_in_onnx(tmp_path: Path) -> None:
    made = deploy.export(
        Special(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=["onnx"],
        dimensions={"x": {0: "batch"}},
    )  # fmt: skip  # one call
    assert made.report.passed
