"""Sums and what is made of them, beside torch's own and through ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy import make_call, make_source
from edgeport.deploy.attempts import Attempt
from edgeport.deploy.compilers.onnx_files.onnx_export import steps_written_out, written_out
from edgeport.deploy.compilers.operators.exact_sums import (
    TABLE,
    group_norm,
    instance_norm,
    mean,
    total,
)
from edgeport.deploy.compilers.targets import negotiate
from edgeport.deploy.compilers.upstream import quiet
from edgeport.runtimes import Range, TensorSpec

CALLS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.mean(),
    lambda x: x.mean((1, 2)),
    lambda x: x.mean(-1, keepdim=True),
    lambda x: x.mean(0, dtype=torch.float64),
    lambda x: x.sum(),
    lambda x: x.sum((0, 2), keepdim=True),
    lambda x: (x > 0).sum(1),
    lambda x: torch.where(x > 3, x, torch.nan).nansum((0, -1)),
    lambda x: torch.where(x > 3, x, torch.nan).nanmean(1, keepdim=True),
    lambda x: x.nanmean(),
    lambda x: torch.einsum("bct -> tb", x),
    lambda x: torch.einsum("bct,bdt->bcd", x, x),
    lambda x: functional.mse_loss(x, 2 * x),
    lambda x: functional.mse_loss(x, 2 * x, reduction="sum"),
    lambda x: functional.mse_loss(x, 2 * x, reduction="none"),
    lambda x: x.var(1),
    lambda x: x.std((1, 2), unbiased=False, keepdim=True),
    lambda x: torch.std(x, dim=2, correction=2),
    lambda x: x.std(False) + x.var(True),
    lambda x: torch.cat(torch.var_mean(x, 1)),
    lambda x: torch.stack(torch.var_mean(x, False)),
    lambda x: torch.cat(torch.std_mean(x, dim=(0, 2), correction=0, keepdim=True)),
    lambda x: x.mean((0, 2), True, dtype=torch.float64),
    lambda x: x.norm(dim=(0, 2)),
    lambda x: torch.linalg.matrix_norm(x, dim=(0, 2), keepdim=True),
    lambda x: torch.linalg.matrix_norm(x, "nuc"),
    lambda x: x.norm(p=1, dim=1),
    lambda x: torch.linalg.vector_norm(x, dtype=torch.float64),
    lambda x: functional.cosine_similarity(x[0], x[1], dim=-1),
    lambda x: functional.cosine_similarity(0 * x, x),
    lambda x: functional.cosine_similarity(x, x[1].abs(), dim=2),
    lambda x: functional.cosine_similarity(x[:, :1], x.abs(), dim=1),
    lambda x: x.logsumexp((0, 2), keepdim=True),
    lambda x: torch.where(x[..., :1] > 3, x, -torch.inf).logsumexp(2),
    lambda x: x.cumsum(1),
    lambda x: x.half().cumsum(-1, dtype=torch.float32),
    lambda x: functional.adaptive_avg_pool2d(x, 1),
    lambda x: functional.adaptive_avg_pool1d(x, 3),
    lambda x: functional.adaptive_avg_pool3d(x[None], 1),
    lambda x: functional.layer_norm(x, x.shape[1:], x[0], -x[1]),
    lambda x: functional.group_norm(x, 3, x[0, :, 0]),
    lambda x: functional.instance_norm(x, weight=x[0, :, 0], bias=x[1, :, 0]),
    lambda x: functional.batch_norm(x, None, None, training=True),
    lambda x: functional.batch_norm(
        x, None, None, x[0, :, 0].clone(), x[1, :, 1].clone(), training=True
    ),
    lambda x: functional.batch_norm(x, x[0, :, 0], x[0, :, 1].abs()),
    lambda x: x.double().mean(),
    lambda x: x.half().mean(1),
]


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 6, 70), (3, 6, 3)])
def test_what_torch_computes(shape: tuple[int, ...]) -> None:
    class Module(nn.Module):
        def forward(self, x: Tensor) -> list[Tensor]:
            return [call(x) for call in CALLS]

    x = torch.randn(shape) + 3
    with quiet():
        program = torch.export.export(Module(), (x,)).run_decompositions(dict(TABLE))
    for place, found in enumerate(program.module()(x)):
        told = f"of call {place}: {found}"
        torch.testing.assert_close(found, CALLS[place](x), equal_nan=True, msg=told)


@pytest.mark.parametrize("value", [0.3, torch.inf, torch.nan])
def test_many_equal_values(value: float) -> None:
    x = torch.full((3, 200_000), value)
    x[1] = 7
    for found in (mean(x, [1]), total(x, [1]) / 200_000):
        torch.testing.assert_close(found, x[:, 0], equal_nan=True, rtol=3e-7, atol=0)
    torch.testing.assert_close(mean(x, [1]), x[:, 0], equal_nan=True, rtol=0, atol=0)


def test_what_needs_no_other_way_is_kept() -> None:
    x = torch.randn(2, 6, 4)
    ones = torch.ones(6)
    kept = instance_norm(x, None, None, ones, ones, False, 0.1, 1e-5, False)
    assert kept is NotImplemented
    assert mean(x.double()) is NotImplemented
    assert total(torch.tensor(1.0)) is NotImplemented


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    x = (torch.randn(1, 2, 40, 40) + 10).to(dtype)
    exact = functional.group_norm(x.double(), 1)
    found = group_norm(x, 1)
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() <= 4 * torch.finfo(dtype).eps


class Offset(nn.Module):
    """Values around 10, of which ONNX Runtime's kernel alone is off by many floors."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = nn.GroupNorm(1, 8)
        self.instances = nn.InstanceNorm2d(8, affine=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x * torch.arange(1, 9).reshape(-1, 1, 1) + 10
        return self.groups(y), self.instances(y)


class Pooled(nn.Module):
    """After zeros, sums of a great many equal values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 2)
        with torch.no_grad():
            self.layer.weight.mul_(0.1)
            self.head.weight.abs_()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.layer(x).relu().sum((2, 3)) / 1000)
        return y


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "routes"),
    [
        (Offset, [("dynamo", "proved")]),
        (Pooled, [("dynamo", "wrong"), ("written out", "proved")]),
    ],
)
def test_a_right_file_is_not_refused_for_the_kernel(
    make: Callable[[], nn.Module], routes: list[tuple[str, str]], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    module = make()
    channels, size = (8, 96) if make is Offset else (1, 400)
    events: list[object] = []
    made = deploy.export(
        module.eval(), {"x": torch.randn(2, channels, size, size)}, tmp_path / "m.edge",
        formats="onnx", dimensions={"x": {0: "batch"}}, ranges={"batch": Range(1, 2)},
        on_event=events.append,
    )  # fmt: skip  # one call
    tried = [(e.route, e.outcome) for e in events if isinstance(e, Attempt)]
    assert tried == routes
    (report,) = made.report.backends
    assert max(v.figures.ratio for v in report.verdicts if v.kind == "random") < 3


@pytest.mark.parametrize("route", [written_out, steps_written_out])
def test_nothing_to_write_out(route: Callable[..., object], tmp_path: Path) -> None:
    source = make_source(
        "net", nn.Linear(2, 2), make_call(nn.Linear(2, 2), (), {"x": torch.randn(3, 2)}),
        [TensorSpec("x", "float32", (3, 2))], {},
    )  # fmt: skip  # one call
    with quiet(), pytest.raises(RuntimeError, match="nothing in it that this route writes"):
        route(source, tmp_path, negotiate())
