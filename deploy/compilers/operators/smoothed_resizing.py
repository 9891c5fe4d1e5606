"""Images resized by a factor and with ``antialias=True``, at the places that torch takes.

torch goes on by ``1 / factor``; its exporter (onnxscript 0.7.2) forgets the factor, so that
ONNX Runtime goes on by the quotient of the sizes: of 9 pixels by 0.5, 9/4 instead of 2. Wrong
at 76 of 152 sizes from 8 to 399, by 0.7 at 139.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node

from .fx_nodes import arguments, value_of

_aten: Any = torch.ops.aten
_whole: Any = torch.sym_int  # torch has no types for it


def _triangle(x: Tensor) -> Tensor:
    return (1 - x).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with -0.5, which torch takes here (and -0.75 elsewhere)."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _smoothed(kernel: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """As ``aten._upsample_..._aa.vec``: x (batch, channels, rows, columns) to other sizes."""

    def resized(
        x: Tensor,
        size: Sequence[int] | None,
        align_corners: bool,
        factors: Sequence[float] | None = None,
    ) -> Any:
        if size or align_corners or _is_alike(x, factors):
            return NotImplemented
        found = x.to(torch.promote_types(x.dtype, torch.float32))
        for axis, factor in zip((3, 2), reversed(factors or ()), strict=True):
            count = _whole(x.shape[axis] * factor)
            weights = _weights(kernel, found, x.shape[axis], count, 1 / factor)
            found = (found.transpose(axis, 3) @ weights.T).transpose(axis, 3)
        return found.to(x.dtype)

    return resized


def _weights(
    kernel: Callable[[Tensor], Tensor], x: Tensor, old: Any, count: Any, step: float
) -> Tensor:
    """How much each pixel counts at each place: (count, old), of which each row adds up to 1."""
    places, pixels = (torch.arange(n, device=x.device).to(x.dtype) + 0.5 for n in (count, old))
    if 0.5 < step < 1:  # as many pixels as before are the same ones: 5 by 1.1
        is_same = torch.scalar_tensor(count - old, device=x.device) == 0
        places = places * torch.where(is_same, 1.0, step).to(x.dtype)
    else:
        places = places * step
    apart = (pixels - places[:, None]).abs() / max(step, 1)
    weights = kernel(apart)
    return weights / weights.sum(1, keepdim=True)


def _is_alike(x: Tensor, factors: Sequence[float] | None) -> bool:
    """Whether each factor is known to be the quotient of the sizes; of bytes nothing is better."""
    return not x.dtype.is_floating_point or all(
        factor.is_integer() or (isinstance(old, int) and (old * factor).is_integer())
        for old, factor in zip(x.shape[2:], factors or (), strict=False)
    )


TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten._upsample_bilinear2d_aa.vec: _smoothed(_triangle),
    _aten._upsample_bicubic2d_aa.vec: _smoothed(_cubic),
}


def applies(node: Node) -> bool:
    """Whether a node with one of these operators has such a factor."""
    x, size, align_corners, factors = arguments(node).values()
    return not (size or align_corners or _is_alike(value_of(x), factors))
