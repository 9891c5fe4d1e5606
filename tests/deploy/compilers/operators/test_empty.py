"""What is made of nothing: rows of which a mask chooses none, and sizes of 0."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import Range


class Chosen(nn.Module):
    """As behind a detector: what is kept, and figures of it."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        kept = x[x[:, 0] > 0]
        flags = kept > 1
        return (
            *(kept.mean(0), kept.mean(), x - kept.mean([0, 1], keepdim=True)),
            *(kept.var(0), kept.std(), kept.var(0, unbiased=False), kept.std(1)),
            *(kept.var(), kept.std(0, correction=0), flags.any((0, 1)), flags.all((0, 1))),
            *(flags.any(), flags.all(0, keepdim=True), kept.any(0), kept.long().all()),
            *(kept.sum(-1), kept.norm(dim=-1), kept.amax(-1), kept.argmax(-1), kept.mean(-1)),
        )


class Together(nn.Module):
    """Two sets of points, either of which may be empty."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        apart = (x[:, None] - y).square().sum(-1)
        return apart.sqrt(), torch.cdist(x, y), (x > 9).any(), x.mean(0), (y > -9).all(-1)


@pytest.mark.filterwarnings("ignore:(var|std).*degrees of freedom")
def test_nothing_may_be_chosen(tmp_path: Path) -> None:
    source = deploy.source_of("chosen", Chosen(), torch.randn(5, 4), {"x": {0: "rows"}})
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate())
    with runtimes.open(tmp_path / "model.onnx") as session:
        for first in ([-1.0, -2.0, -3.0], [1.0, -2.0, 3.0], [4.0, 5.0, 6.0]):
            x = torch.randn(3, 4).abs() + 1.5
            x[:, 0] = torch.tensor(first)
            found = session.run({"x": x.numpy()})
            for answer, expected in zip(found.values(), Chosen()(x), strict=True):
                np.testing.assert_allclose(answer, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_sizes_may_be_0(tmp_path: Path) -> None:
    free = {"x": {0: "m"}, "y": {0: "n"}}
    ranges = {"m": Range(0, 8), "n": Range(0, 8)}
    example = torch.randn(3, 4), torch.randn(2, 4)
    deploy.export(
        Together(), example, tmp_path / "a", dimensions=free, ranges=ranges, formats=["onnx"]
    )
    with runtimes.open(tmp_path / "a", "ort-cpu") as session:
        found = session.run({"x": example[0][:0].numpy(), "y": example[1].numpy()})
    assert [answer.shape for answer in found.values()] == [(0, 2), (0, 2), (), (4,), (2,)]
    assert np.isnan(found["output_3"]).all()
