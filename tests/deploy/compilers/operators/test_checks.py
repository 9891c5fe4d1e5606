"""What forward checks of values is refused where the file runs, in each format."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.runtimes import ValuesError

BACKENDS = {"onnx": "ort-cpu", "torchscript": "libtorch", "pt2": "torch"}


class Number(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch._check(x.max().item() < 1e3, lambda: "too large")  # type: ignore[no-untyped-call]
        return x * 2


class All(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch._check_tensor_all(x < 1e3)  # type: ignore[no-untyped-call]
        return x * 2


@pytest.mark.usually("module1")
@pytest.mark.parametrize("format_", BACKENDS)
@pytest.mark.parametrize("module", [Number(), All()])
def test_what_is_checked_is_refused(module: nn.Module, format_: str, tmp_path: Path) -> None:
    made = deploy.export(
        module, {"x": torch.randn(2, 4)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    with made.bundle.open(BACKENDS[format_]) as session:
        x = np.ones((5, 4), np.float32)
        np.testing.assert_array_equal(session.run({"x": x})["output"], 2 * x)
        x[3, 3] = 1e4
        with pytest.raises(ValuesError, match="another way through forward"):
            session.run({"x": x})
