"""Where an operator raises within ``try``, no file answers in place of ``except``."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.runtimes import ValuesError

BACKENDS = {"onnx": "ort-cpu", "torchscript": "libtorch"}


class Factors(nn.Module):
    """In a function that it calls, of which one line is tried."""

    def factor(self, x: Tensor) -> Tensor:
        found: Tensor = torch.linalg.cholesky(x.mT @ x + 0.1 * torch.eye(2))
        return found

    def forward(self, x: Tensor) -> Tensor:
        try:
            return x @ self.factor(x)
        except RuntimeError:
            return x


@pytest.mark.parametrize("format_", BACKENDS)
def test_what_raises_is_refused(format_: str, tmp_path: Path) -> None:
    module = Factors()
    made = deploy.export(
        module, {"x": torch.randn(3, 2)}, tmp_path / "m.edge", formats=[format_],
        dimensions={"x": {0: "rows"}},
    )  # fmt: skip  # one call
    far = np.array([[1e4, 1e4]], np.float32)
    torch.testing.assert_close(module(torch.tensor(far)), torch.tensor(far))
    with made.bundle.open(BACKENDS[format_]) as session:
        near = torch.randn(5, 2)
        (found,) = session.run({"x": near.numpy()}).values()
        np.testing.assert_allclose(found, module(near), rtol=1e-4, atol=1e-5)
        with pytest.raises(ValuesError, match="another way through forward"):
            session.run({"x": far})
