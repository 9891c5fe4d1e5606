"""``float(size)`` beside what torch.export alone takes for a constant."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy import source_of
from edgeport.deploy.compilers.capture import program
from edgeport.deploy.compilers.operators.quotients import LostSizeError


class Centred(nn.Module):
    """As of image warps: half of a size, and places between its ends."""

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        centre = torch.tensor([float(width - 1) / 2, float("1")])
        assert isinstance(centre.shape[0], int)
        assert isinstance(float(2), float)
        return x * torch.linspace(-1, 1, int(width / 1)) + centre.sum()


@pytest.mark.slow
def test_a_float_of_a_size_stays_free(tmp_path: Path) -> None:
    module = Centred()
    dimensions = {"x": {0: "batch", 1: "width"}}
    path = tmp_path / "m.edge"
    deploy.export(module, torch.randn(2, 5), path, dimensions=dimensions, formats=["onnx", "pt2"])
    assert globals().keys().isdisjoint({"float", "int", "len"})
    x = torch.randn(3, 9)
    for backend in ("ort-cpu", "torch"):
        with runtimes.open(path, backend) as session:
            found = session.run({"x": x.numpy()})["output"]
        np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-5, atol=1e-6)


class Heads(nn.Module):
    """As of tabular transformers: the rows by ``len``, which makes a number of them."""

    def forward(self, x: Tensor) -> Tensor:
        assert len([x]) == 1
        y = (lambda value: value.tanh())(x)  # no script
        return y.reshape(len(x), 2, 3).transpose(1, 2).reshape(len(x), 6)


def test_the_length_of_a_tensor_stays_free() -> None:
    free = {"x": {0: "batch"}}
    source = source_of("net", Heads(), {"x": torch.randn(2, 6)}, free)
    (found,) = program.capture(source).module()(x := torch.randn(5, 6))
    assert torch.equal(found, Heads()(x))
    assert "len" not in globals()
    with program.ready(), pytest.raises(LostSizeError, match=r"len\(\) of a free size"):
        program.exported(source, source.flat)


class Addressed(nn.Module):
    """It fails where the length stays a size too."""

    def forward(self, x: Tensor) -> Tensor:
        y = (lambda value: value.tanh())(x)  # no script
        return y.reshape(len(x), 6) + x.data_ptr()


def test_what_fails_behind_the_length_is_told() -> None:
    source = source_of("net", Addressed(), {"x": torch.randn(2, 6)}, {"x": {0: "batch"}})
    with pytest.raises(RuntimeError, match="Cannot access data pointer"):
        program.capture(source)
