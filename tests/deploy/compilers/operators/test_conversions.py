"""``float(size)`` beside what torch.export alone takes for a constant."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes


class Centred(nn.Module):
    """As of image warps: half of a size, and places between its ends."""

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        centre = torch.tensor([float(width - 1) / 2, float("1")])
        assert isinstance(centre.shape[0], int)
        assert isinstance(float(2), float)
        return x * torch.linspace(-1, 1, int(width / 1)) + centre.sum()


def test_a_float_of_a_size_stays_free(tmp_path: Path) -> None:
    module = Centred()
    dimensions = {"x": {0: "batch", 1: "width"}}
    path = tmp_path / "m.edge"
    deploy.export(module, torch.randn(2, 5), path, dimensions=dimensions, formats=["onnx", "pt2"])
    assert globals().keys().isdisjoint({"float", "int"})
    x = torch.randn(3, 9)
    for backend in ("ort-cpu", "torch"):
        with runtimes.open(path, backend) as session:
            found = session.run({"x": x.numpy()})["output"]
        np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-5, atol=1e-6)
