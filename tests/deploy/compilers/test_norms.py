"""Normalisation over groups, beside torch's own and through ONNX Runtime."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.attempts import Attempt
from edgeport.deploy.compilers.norms import group_norm, instance_norm, used_by
from edgeport.runtimes import Range


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (3, 6, 4, 5), (1, 6, 2, 3, 4)])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_groups(shape: tuple[int, ...], groups: int) -> None:
    x = torch.randn(shape, dtype=torch.float64) + 3
    weight, bias = torch.randn(6).double(), torch.randn(6).double()
    for w, b in ((weight, bias), (None, None)):
        expected = functional.group_norm(x, groups, w, b, eps=1e-3)
        torch.testing.assert_close(group_norm(x, groups, w, b, 1e-3), expected)


def test_instances() -> None:
    x = torch.randn(2, 6, 4, 5, dtype=torch.float64) + 3
    weight = torch.randn(6).double()
    found = instance_norm(x, weight, None, None, None, True, 0.1, 1e-5, False)
    torch.testing.assert_close(found, functional.instance_norm(x, weight=weight))
    kept = instance_norm(x, None, None, weight, weight, False, 0.1, 1e-5, False)
    assert kept is NotImplemented


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype) -> None:
    x = (torch.randn(1, 2, 40, 40) + 10).to(dtype)
    exact = functional.group_norm(x.double(), 1)
    found = group_norm(x, 1)
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() <= 4 * torch.finfo(dtype).eps


class Offset(nn.Module):
    """Values around 10, of which ONNX Runtime's kernel is off by many floors."""

    def __init__(self) -> None:
        super().__init__()
        self.groups = nn.GroupNorm(1, 8)
        self.instances = nn.InstanceNorm2d(8, affine=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x * torch.arange(1, 9).reshape(-1, 1, 1) + 10
        return self.groups(y), self.instances(y)


def test_a_right_file_is_not_refused_for_the_kernel(tmp_path: Path) -> None:
    module = Offset().eval()
    assert used_by(module)
    assert not used_by(nn.Linear(2, 2))
    events: list[object] = []
    made = deploy.export(
        module, {"x": torch.randn(2, 8, 96, 96)}, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {0: "batch"}}, ranges={"batch": Range(1, 2)}, on_event=events.append,
    )  # fmt: skip  # one call
    tried = [(e.route, e.outcome) for e in events if isinstance(e, Attempt)]
    assert tried == [("dynamo", "wrong"), ("written out", "proved")]
    (report,) = made.report.backends
    assert max(v.figures.ratio for v in report.verdicts if v.kind == "random") < 3
