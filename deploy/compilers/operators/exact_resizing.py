"""Images resized by weights that are exact: ONNX Runtime's are rounded where torch's are not.

From 7 to 16 pixels a step is 7/16, which float32 holds; ONNX Runtime 1.31.1 divides by 16/7, which
it does not. Its result is off by 4e-7 to 7e-7 where torch's is by 3e-8: up to 15 times as far. Here
places are whole numbers until the last division.
"""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

_aten: Any = torch.ops.aten

_KEEP: Final = NotImplemented

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
            return _KEEP  # places by other formulas; these are as exact as torch's
        found = x.float()
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
    beyond = (places - pixels * unit).float() / unit
    shape = [-1, *[1] * (x.dim() - 1 - axis)]
    parts = [
        x.index_select(axis, (pixels + step - 1).clamp(0, old - 1)) * weight.reshape(shape)
        for step, weight in weights(beyond).items()
    ]
    return functools.reduce(operator.add, parts)


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
