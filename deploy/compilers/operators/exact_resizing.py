"""Images resized by weights that are exact: ONNX Runtime's are rounded where torch's are not.

From 7 to 16 pixels a step is 7/16, which float32 holds; ONNX Runtime 1.31.1 divides by 16/7, which
it does not. Its result is off by 4e-7 to 7e-7 where torch's is by 3e-8: up to 15 times as far. Here
places are whole numbers until the last division.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from .fx_nodes import arguments, value_of

_aten: Any = torch.ops.aten


_whole: Any = torch.sym_int  # torch has no types for it

_MANY: Final = 4096
"""Pixels of an image whose size is free, up to which sizes are compared."""

_CUBIC: Final = -0.75
"""The kernel's parameter, as torch has it (Keys, 1981, has -0.5)."""

Weights: TypeAlias = Callable[[Tensor], Mapping[int, Tensor]]
"""How far a place is beyond a pixel, 0 to 1 -> how much each pixel counts, by its distance."""


def _resizing(weights: Weights) -> Callable[..., Any]:
    """As ``aten.upsample_...vec``: x (batch, channels, ...) to other sizes of what follows."""

    def resized(
        x: Tensor,
        size: Sequence[int] | None,
        align_corners: bool,
        factors: Sequence[float] | None = None,
    ) -> Any:
        if align_corners or not all(factor.is_integer() for factor in factors or ()):
            return NotImplemented  # places by other formulas; these are as exact as torch's
        found = _wide(x)
        for axis in range(2, x.dim()):
            old = x.shape[axis]
            count = size[axis - 2] if size else old * int((factors or ())[axis - 2])
            found = _along(found, axis, count, weights)
        return found.to(x.dtype)

    return resized


def _along(x: Tensor, axis: int, count: int, weights: Weights) -> Tensor:
    """One axis at ``count`` places, each in the middle of its part of it."""
    old, unit = x.shape[axis], 2 * count
    numbers = torch.arange(count, device=x.device)
    places = (2 * numbers + 1) * old + count  # in 1 / unit of a pixel; one more, to be positive
    pixels = places // unit
    beyond = (places - pixels * unit).to(x.dtype) / unit
    return _weighted(x, axis, pixels - 1, weights(beyond))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _weighted(x: Tensor, axis: int, pixels: Tensor, weights: Mapping[int, Tensor]) -> Tensor:
    """The sum of the pixels at each place and around it."""
    shape = [-1, *[1] * (x.dim() - 1 - axis)]
    parts = [
        x.index_select(axis, (pixels + step).clamp(0, x.shape[axis] - 1)) * weight.reshape(shape)
        for step, weight in weights.items()
    ]
    return functools.reduce(operator.add, parts)


def _of_a_factor(weights: Weights) -> Callable[..., Any]:
    """The same by a factor of which ONNX Runtime makes another size: 90 * 0.7 is 62 in torch."""

    def resized(
        x: Tensor,
        size: Sequence[int] | None,
        align_corners: bool,
        factors: Sequence[float] | None = None,
    ) -> Any:
        sides = zip(x.shape[2:], factors or (), strict=not size)
        if align_corners or all(is_of_one_size(old, factor) for old, factor in sides):
            return NotImplemented
        found = _wide(x)
        for axis, factor in enumerate(factors or (), start=2):
            numbers = torch.arange(_whole(x.shape[axis] * factor), device=x.device)
            places = (numbers.to(found.dtype) + 0.5) * (1 / factor) - 0.5
            pixels = places.floor()
            found = _weighted(found, axis, pixels.long(), weights(places - pixels))
        return found.to(x.dtype)

    return resized


def is_of_one_size(old: Any, factor: float) -> bool:
    """Whether float32 and Python make one size of it; of a free one, of each up to 4096.

    Of one that is fixed, ONNX's inference of shapes too, which rounds the factor alone (1.23).
    """
    is_free = isinstance(old, torch.SymInt)
    sizes, rounded = np.arange(_MANY) if is_free else np.array([old]), np.float32(factor)
    counts = [sizes.astype(np.float32) * rounded, *([] if is_free else [sizes * float(rounded)])]
    return all(np.array_equal(np.floor(sizes * factor), np.floor(each)) for each in counts)


def _linear(beyond: Tensor) -> dict[int, Tensor]:
    return {0: 1 - beyond, 1: beyond}


def _cubic(beyond: Tensor) -> dict[int, Tensor]:
    ahead = 1 - beyond
    return {-1: _far(1 + beyond), 0: _near(beyond), 1: _near(ahead), 2: _far(1 + ahead)}


def _near(x: Tensor) -> Tensor:
    return ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1


def _far(x: Tensor) -> Tensor:
    return ((_CUBIC * x - 5 * _CUBIC) * x + 8 * _CUBIC) * x - 4 * _CUBIC


TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.upsample_linear1d.vec: _resizing(_linear),
    _aten.upsample_bilinear2d.vec: _resizing(_linear),
    _aten.upsample_trilinear3d.vec: _resizing(_linear),
    _aten.upsample_bicubic2d.vec: _resizing(_cubic),
}


OF_A_FACTOR: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.upsample_linear1d.vec: _of_a_factor(_linear),
    _aten.upsample_bilinear2d.vec: _of_a_factor(_linear),
    _aten.upsample_trilinear3d.vec: _of_a_factor(_linear),
    _aten.upsample_bicubic2d.vec: _of_a_factor(_cubic),
}


def applies(node: Node) -> bool:
    """Whether a node with one of these operators has such a factor."""
    x, _, align_corners, factors = arguments(node).values()
    sides = zip(value_of(x).shape[2:], factors or (), strict=False)
    return not align_corners and not all(is_of_one_size(old, factor) for old, factor in sides)
