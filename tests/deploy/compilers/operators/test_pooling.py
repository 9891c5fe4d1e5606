"""Pooling over free sizes: windows as large as the image, and ``ceil_mode``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.capture import program
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.runtimes import Range

_Pool = Callable[[Tensor], Tensor]


class Pools(nn.Module):
    def __init__(self, pool: _Pool) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


def _bare(*layers: nn.Module) -> _Pool:
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: functional.max_pool2d(x, x.size()[2:]),
        lambda x: functional.max_pool2d(x, (x.size(2), 1)),
        lambda x: functional.avg_pool2d(x, (x.shape[2], x.shape[3]), stride=1),
        lambda x: functional.avg_pool2d(x, (1, x.size(3))),
        lambda x: nn.MaxPool1d(x.size(-1))(x[0]),
        lambda x: functional.avg_pool1d(x[0], x.size(-1)),
        lambda x: functional.max_pool3d(x, (1, *x.shape[2:])),
        _bare(nn.MaxPool2d(3, 2, ceil_mode=True)),
        _bare(nn.MaxPool2d((3, 5), (2, 4), padding=1, ceil_mode=True)),
        _bare(nn.MaxPool2d(3, 2, dilation=2, ceil_mode=True)),
        _bare(nn.AvgPool2d(3, 2, ceil_mode=True)),
        _bare(nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)),
        _bare(nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, count_include_pad=False)),
        lambda x: functional.max_pool1d(x[0], 3, 2, 1, 1, True),
        lambda x: functional.max_pool1d(x[0], 3, 2, dilation=2),
        lambda x: functional.avg_pool1d(x[0], 3, 2, ceil_mode=True),
        lambda x: functional.avg_pool2d(x, 3, 2, 1, True, divisor_override=5),
    ],
)
def test_pools_hold_for_every_size(pool: _Pool) -> None:
    module = Pools(pool).eval()
    free = {"height": Range(8, 64), "width": Range(8, 64)}
    source = deploy.source_of(
        "m", module, {"x": torch.randn(2, 3, 16, 20)}, {"x": {2: "height", 3: "width"}}, free
    )
    with quiet(), inference_only():
        captured = program.capture(source).module()
    for height, width in ((8, 9), (10, 12), (31, 64)):
        x = torch.randn(2, 3, height, width)
        torch.testing.assert_close(captured(x)[0], module(x))


def test_a_divisor_is_that_of_forward_in_onnx(tmp_path: Path) -> None:
    pool = _bare(nn.AvgPool2d(3, 2, padding=1, ceil_mode=True, divisor_override=5))
    module = Pools(pool).eval()
    source = deploy.source_of("m", module, torch.randn(1, 3, 16, 20), {"x": {2: "height"}})
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate())
    with runtimes.open(tmp_path / "model.onnx") as session:
        x = torch.randn(1, 3, 11, 20)
        (found,) = session.run({"x": x.numpy()}).values()
    np.testing.assert_allclose(found, module(x), atol=1e-6)
