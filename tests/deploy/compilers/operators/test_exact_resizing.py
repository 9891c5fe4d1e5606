"""Resized images, beside torch's own and through ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.operators.exact_resizing import OF_A_FACTOR, TABLE
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import Range

_aten: Any = torch.ops.aten

OPERATORS = {
    "linear": (_aten.upsample_linear1d.vec, (2, 3, 7)),
    "bilinear": (_aten.upsample_bilinear2d.vec, (2, 3, 7, 5)),
    "trilinear": (_aten.upsample_trilinear3d.vec, (1, 2, 4, 5, 3)),
    "bicubic": (_aten.upsample_bicubic2d.vec, (2, 3, 7, 5)),
}


@pytest.mark.parametrize("mode", OPERATORS)
def test_what_torch_computes(mode: str) -> None:
    torch.manual_seed(0)
    operator, shape = OPERATORS[mode]
    x = torch.randn(shape)
    axes = len(shape) - 2
    for size in ([16, 9, 2][:axes], [3, 1, 3][:axes], [32, 11, 4][:axes]):
        exact = functional.interpolate(x.double(), size=size, mode=mode)
        torch.testing.assert_close(
            TABLE[operator](x, size, False, None).double(), exact, rtol=0, atol=3e-6
        )
    doubled = TABLE[operator](x.half(), None, False, [2.0] * axes)
    assert doubled.dtype == torch.float16
    torch.testing.assert_close(
        doubled, functional.interpolate(x, scale_factor=2, mode=mode).half(), rtol=2e-3, atol=2e-3
    )


def test_what_is_as_exact_as_torch_is_kept() -> None:
    operator, shape = OPERATORS["bilinear"]
    x = torch.randn(shape)
    assert TABLE[operator](x, [4, 4], True, None) is NotImplemented
    assert TABLE[operator](x, None, False, [1.5, 2.0]) is NotImplemented


@pytest.mark.parametrize("mode", OPERATORS)
def test_by_a_factor(mode: str) -> None:
    operator, shape = OPERATORS[mode]
    x = torch.randn(*shape[:2], 90, *[5, 3][: len(shape) - 3])
    factors = [0.7, 1.3, 0.7][: len(shape) - 2]
    found = OF_A_FACTOR[operator](x, None, False, factors)
    torch.testing.assert_close(found, operator(x, None, False, factors), rtol=0, atol=1e-4)
    assert OF_A_FACTOR[operator](x, None, False, [1.5] * len(factors)) is NotImplemented


class Shrunk(nn.Module):
    """Of 90 rows 62: in float32 it would be 63."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            functional.interpolate(x, scale_factor=0.7, mode="bilinear"),
            functional.interpolate(x, scale_factor=1.3, mode="bicubic"),
        )


@pytest.mark.slow
def test_a_factor_makes_the_size_that_torch_makes(tmp_path: Path) -> None:
    free, ranges = {"x": {2: "rows"}}, {"rows": Range(8)}
    source = deploy.source_of("m", Shrunk().eval(), torch.randn(1, 2, 20, 9), free, ranges)
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate())
    with runtimes.open(tmp_path / "model.onnx") as session:
        for rows in (90, 170, 180, 8):
            x = torch.randn(1, 2, rows, 9)
            found = session.run({"x": x.numpy()})
            for answer, expected in zip(found.values(), Shrunk()(x), strict=True):
                np.testing.assert_allclose(answer, expected.numpy(), rtol=0, atol=1e-4)


class Enlarged(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(x, size=(16, 16), mode="bicubic")


@pytest.mark.slow
def test_a_right_file_is_not_refused_for_the_kernel(tmp_path: Path) -> None:
    torch.manual_seed(0)
    events: list[object] = []
    made = deploy.export(
        Enlarged(), {"x": torch.randn(1, 4, 7, 7)}, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {0: "batch"}}, ranges={"batch": Range(1, 4)}, on_event=events.append,
    )  # fmt: skip  # one call
    tried = [(e.route, e.outcome) for e in events if isinstance(e, deploy.Attempt)]
    assert tried == [("dynamo", "wrong"), ("written out", "proved")]
    (report,) = made.report.backends
    assert max(v.figures.ratio for v in report.verdicts if v.kind == "random") < 2
