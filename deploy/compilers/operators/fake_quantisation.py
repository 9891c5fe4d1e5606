"""Rounding to the levels of a quantised type, as ``FakeQuantize`` does: torch cannot export it.

It has no shapes of it for torch.export, and none for whoever opens a file that holds it (2.13).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor

_aten: Any = torch.ops.aten  # operators are made on demand: no types


@contextlib.contextmanager
def known() -> Iterator[None]:
    """What torch.export has to know of it."""
    with torch.library._scoped_library("aten", "IMPL") as library:
        for name in (
            "fake_quantize_per_tensor_affine_cachemask",
            "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
            "fake_quantize_per_channel_affine_cachemask",
        ):
            library.impl(name, _shapes, "Meta")
        yield


def _shapes(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)


def _rounded(x: Tensor, scale: Any, zero_point: Any, least: int, most: int) -> Tensor:
    level = torch.round(x * (1 / scale) + zero_point).clamp(least, most)
    rounded: Tensor = (level - zero_point) * scale
    return rounded


def _by_channel(
    x: Tensor, scale: Tensor, zero_point: Tensor, axis: int, least: int, most: int
) -> Tensor:
    shape = [-1 if place == axis % x.dim() else 1 for place in range(x.dim())]
    return _rounded(x, scale.reshape(shape), zero_point.reshape(shape), least, most)


TABLE: Final[Mapping[Any, Callable[..., Tensor]]] = {
    _aten.fake_quantize_per_tensor_affine.default: _rounded,
    _aten.fake_quantize_per_tensor_affine.tensor_qparams: _rounded,
    _aten.fake_quantize_per_channel_affine.default: _by_channel,
}
"""For a file: in operators that whoever opens it knows."""
