"""Native code adds as precisely as eager does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.sums_by_axis import _TABLE
from edgeport.runtimes import Bundle, verify

ATEN = torch.ops.aten


@given(
    operator=st.sampled_from([ATEN.mean.dim, ATEN.sum.dim_IntList]),
    shape=st.lists(st.integers(0, 4), min_size=2, max_size=4),
    data=st.data(),
    keepdim=st.booleans(),
    dtype=st.sampled_from([None, torch.float64]),
)
def test_it_is_the_sum_and_the_mean(
    operator: Any, shape: list[int], data: st.DataObject, keepdim: bool, dtype: torch.dtype | None
) -> None:
    rank = len(shape)
    axes = data.draw(st.lists(st.integers(0, rank - 1), min_size=2, max_size=rank, unique=True))
    named = [axis - rank * data.draw(st.booleans()) for axis in axes]
    x = torch.randn(shape)
    expected = operator(x, named, keepdim, dtype=dtype)
    torch.testing.assert_close(
        _TABLE[operator](x, named, keepdim, dtype=dtype), expected, equal_nan=True
    )


def test_over_everything() -> None:
    x = torch.randn(3, 4)
    torch.testing.assert_close(_TABLE[ATEN.mean.default](x), x.mean())
    torch.testing.assert_close(_TABLE[ATEN.sum.default](x), x.sum())
    torch.testing.assert_close(_TABLE[ATEN.sum.dim_IntList](x, []), x.sum())


@pytest.mark.parametrize(
    ("x", "axes"),
    [
        (torch.ones(3, 4), [1]),
        (torch.ones(3, 4, dtype=torch.int32), [0, 1]),
        (torch.tensor(1.0), None),
        (torch.tensor(1.0), [0]),
        (torch.tensor(1.0), [-1]),
    ],
)
def test_what_adds_over_one_axis_or_exactly_is_torchs_own(x: Tensor, axes: list[int]) -> None:
    assert _TABLE[ATEN.sum.dim_IntList](x, axes) is NotImplemented


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_numbers_are_rounded_once(dtype: torch.dtype) -> None:
    x = torch.cat([torch.full((2, 30, 40), sign * 2000.0) for sign in (1, -1)], 1) + torch.rand(40)
    for held, asked in ((x.to(dtype), None), (x, dtype)):
        found = _TABLE[ATEN.sum.dim_IntList](held, [1, 2], dtype=asked)
        torch.testing.assert_close(found, held.sum([1, 2], dtype=asked))
        assert found.dtype == dtype


class Pooled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.permute(0, 3, 1, 2) + 0.1).mean((-1, -2))


def test_equal_numbers_in_two_axes(tmp_path: Path) -> None:
    """All in one loop, that of ones was 61 floors off."""
    path = tmp_path / "m.edge"
    deploy.export(Pooled(), torch.randn(2, 40, 40, 8), path, formats=["aotinductor"])
    (report,) = verify(Bundle.read(path)).backends
    assert report.outcome == "pass"
