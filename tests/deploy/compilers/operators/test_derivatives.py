"""Jacobians, Hessians and derivatives along a direction: torch's own, and on symbols."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, func, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.capture import program
from edgeport.deploy.compilers.operators import derivatives
from edgeport.deploy.compilers.upstream import inference_only, quiet

_vmap: Any = func.vmap

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script`"  # torch.func loads it
)


_Derive = Callable[[nn.Module, Tensor], Any]


class Derives(nn.Module):
    def __init__(self, derive: _Derive) -> None:
        super().__init__()
        self.derive = derive
        self.field = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Any:
        return self.derive(self.field, x)


@pytest.mark.usually("lambda>0", "lambda>1", "lambda>3")
@pytest.mark.parametrize(
    "derive",
    [
        lambda field, x: _vmap(func.jacrev(field))(x),
        lambda field, x: _vmap(func.jacfwd(field))(x),
        lambda field, x: _vmap(func.hessian(lambda y: field(y).square().sum()))(x),
        lambda field, x: func.jvp(field, (x,), (x.cos(),)),
    ],
)
def test_what_is_recorded_is_what_torch_derives(derive: _Derive) -> None:
    module = Derives(derive)
    x = torch.randn(3, 4)
    source = deploy.exporter.source_of("m", module, {"x": x}, {"x": {0: "batch"}})
    with quiet(), inference_only():
        made: Any = program.capture(source).module()
    for rows in (x[:2], torch.randn(5, 4)):
        expected = module(rows)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for found, right in zip(made(rows), expected, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)


def test_several_arguments_and_auxiliary_results_are_left_to_torch() -> None:
    x, y = torch.randn(3), torch.randn(3)
    expected = func.jacrev(torch.mul, (0, 1))(x, y)
    for found, right in zip(derivatives.jacobian(torch.mul, (0, 1))(x, y), expected, strict=True):
        assert torch.equal(found, right)
    assert torch.equal(derivatives.jacobian(torch.mul, 1)(x, y), func.jacrev(torch.mul, 1)(x, y))
    aside = derivatives.jvp(lambda x: (x * 2, x), (x,), (y,), has_aux=True)
    assert torch.equal(aside[1], y * 2)
    assert torch.equal(aside[2], x)


class Residual(nn.Module):
    """A physics-informed network; torch's exporter to ONNX calls a transposed weight ``t``, too."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x.requires_grad_()
        t.requires_grad_()
        u = self.net(torch.cat([x, t], 1))
        ones = torch.ones_like(u)
        u_t, u_x = torch.autograd.grad(u, (t, x), ones, create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x, x, ones, create_graph=True)
        return u, u_t + u * u_x - 0.01 * u_xx


@pytest.mark.slow
def test_derivatives_by_autograd_in_every_format(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Residual().eval()
    made = deploy.export(
        module, {"x": torch.randn(3, 1), "t": torch.rand(3, 1)}, tmp_path / "m.edge",
        dimensions={"x": {0: "points"}, "t": {0: "points"}},
    )  # fmt: skip  # one call
    x, t = torch.randn(9, 1), torch.rand(9, 1)
    inputs = {"x": x.numpy().copy(), "t": t.numpy().copy()}
    expected = module(x, t)
    for backend in made.bundle.backends_on("cpu"):
        with runtimes.open(tmp_path / "m.edge", backend) as session:
            found = map(torch.tensor, session.run(inputs).values())
        torch.testing.assert_close(tuple(found), tuple(y.detach() for y in expected))


class AsManyFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            u = self.net(x)
            (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        result: Tensor = (u + slope.sum(-1, keepdim=True)).detach()
        return result


def test_a_free_size_that_equals_a_fixed_one_in_the_example_stays_free() -> None:
    module = AsManyFeatures()
    source = deploy.exporter.source_of("m", module, {"x": torch.randn(2, 2)}, {"x": {0: "batch"}})
    with quiet(), inference_only():
        made: Any = program.capture(source).module()
    x = torch.randn(5, 2)
    torch.testing.assert_close(made(x)[0], module(x))


class PullsBack(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        x.pow(3).sum().backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        slope = x.grad
        assert slope is not None
        return slope


def test_what_backward_leaves(tmp_path: Path) -> None:
    deploy.export(
        PullsBack(), {"x": torch.randn(3, 4)}, tmp_path / "m.edge", formats=["pt2"],
        dimensions={"x": {0: "batch"}},
    )  # fmt: skip  # one call


BESIDE_A_DEVICE = """
import sys, torch
from edgeport import deploy, runtimes
from edgeport.deploy.compilers.capture import derivatives_in_forks
from tests.deploy.compilers.operators.test_derivatives import PullsBack

class Guard(torch._C._acc.DeviceGuard):
    def type_(self):
        return torch._C._autograd.DeviceType.PrivateUse1

guard = Guard()
torch._C._acc.register_python_privateuseone_device_guard(guard)
assert not derivatives_in_forks.are_refused()
for folder, search_s in (("m.edge", 0), ("searched.edge", 1)):
    try:
        made = deploy.export(
            PullsBack(), {"x": torch.randn(3, 4)}, sys.argv[1] + folder, formats=["pt2"],
            dimensions={"x": {0: "batch"}}, search_s=search_s,
        )
    except runtimes.ExportError as e:
        print(e)
    else:
        print(*made.notes, sep="\\n")
assert derivatives_in_forks.are_refused()
"""


@pytest.mark.slow
def test_derivatives_are_recorded_before_the_fork_beside_a_device(tmp_path: Path) -> None:
    """The device is one that torch knows by name alone: its engine starts threads for it too."""
    command = [sys.executable, "-c", BESIDE_A_DEVICE, f"{tmp_path}/"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    refusal = (
        "forward takes derivatives, which torch refuses in a fork of a process that has taken "
        "some beside a GPU"
    )
    assert f"the module was asked nothing with NaN or Inf: {refusal}\n" in done.stdout
    assert done.stdout.endswith(
        f"{refusal}\n  fix: export in a process without a GPU: "
        "CUDA_VISIBLE_DEVICES= edgeport export ...\n"
    )
    with runtimes.open(tmp_path / "m.edge", "torch") as session:
        (found,) = session.run({"x": np.array([[1, 2, 3, 4]], np.float32)}).values()
    assert found.tolist() == [[3, 12, 27, 48]]
