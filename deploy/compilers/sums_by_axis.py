"""Sums of native code over several axes: over one axis after the other.

Inductor adds them up in one loop, number by number in float32 (torch 2.13), so that what is rounded
adds up too: a mean of 900 equal numbers was 20 times as far off as eager's, which adds in pairs.
Over one axis and then over the next it is as near, and for images no slower. What is between two
axes is in float32 at least: a float16 has no sum beyond 65,504, though all together may be 0.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

_ATEN: Final = torch.ops.aten


@contextlib.contextmanager
def by_axis() -> Iterator[None]:
    """While it is entered, Inductor takes sums and means apart (2.13: no public way)."""
    from torch._inductor import decomposition  # seconds

    torchs: Any = decomposition.fast_random_decomps()
    known = {**torchs, **_TABLE}
    with mock.patch.object(decomposition, "fast_random_decomps", return_value=known):
        yield


def _one_after_the_other(operator: Any) -> Callable[..., Any]:
    def added(
        x: Tensor,
        axes: Sequence[int] | None = None,
        keepdim: bool = False,
        *,
        dtype: torch.dtype | None = None,
    ) -> Any:
        asked = dtype or x.dtype
        if x.ndim < 2 or not asked.is_floating_point:
            return NotImplemented
        last_first = sorted((axis % x.ndim for axis in axes or range(x.ndim)), reverse=True)
        if len(last_first) < 2:
            return NotImplemented
        x, between = x.to(asked), torch.promote_types(asked, torch.float32)
        for axis in last_first:
            x = operator(x, [axis], keepdim, dtype=between)
        return x.to(asked)

    return added


_TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _ATEN.mean.dim: _one_after_the_other(_ATEN.mean.dim),
    _ATEN.sum.dim_IntList: _one_after_the_other(_ATEN.sum.dim_IntList),
    _ATEN.mean.default: _one_after_the_other(_ATEN.mean.dim),
    _ATEN.sum.default: _one_after_the_other(_ATEN.sum.dim_IntList),
}
