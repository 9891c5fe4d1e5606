"""Adaptive pooling, of free sizes and of three axes, one axis after the other."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node

from .symbols import is_free

_aten: Any = torch.ops.aten  # operators are made on demand: no types


def _max_pool(x: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The largest values, and their places in the whole: the first ones of equal values."""
    rank = len(size)
    shape = x.shape[-rank:]
    place = torch.arange(math.prod(shape)).reshape(shape).expand(x.shape)
    for axis, count in zip(range(-1, -rank - 1, -1), reversed(size), strict=True):
        x, place = x.movedim(axis, -1), place.movedim(axis, -1)
        x, at = _largest(x, count)
        x, place = x.movedim(-1, axis), place.gather(-1, at).movedim(-1, axis)
    return x, place


def _largest(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Along the last axis."""
    length = x.shape[-1]
    if not (isinstance(length, int) and isinstance(count, int)):
        found: tuple[Tensor, Tensor] = torch.where(
            _inside(length, count), x.contiguous().unsqueeze(-2), -math.inf
        ).max(-1)
        return found
    bins = [(n * length // count, -(-(n + 1) * length // count)) for n in range(count)]
    windows = [(start, *x[..., start:end].max(-1)) for start, end in bins]
    values = torch.stack([values for _, values, _ in windows], -1)
    return values, torch.stack([start + at for start, _, at in windows], -1)


def _captured(own: Any, rank: int) -> Callable[..., Any]:
    """As many windows as a free size tells, ``(height // 2, width // 2)``: torch's own fixes it."""

    def pooled(input: Tensor, output_size: Any) -> Any:
        size = output_size if isinstance(output_size, list | tuple) else [output_size]
        size = [*size] * rank if len(size) == 1 else size
        return _max_pool(input, size) if any(map(is_free, size)) else own(input, output_size)

    return pooled


def _mean_pool(x: Tensor, size: Sequence[int]) -> Any:
    """Means over windows of a free size: torch's own asks how they divide it."""
    if not _is_written_out(x, size):
        return NotImplemented
    for axis, count in enumerate(size, -len(size)):
        x = _window_mean(x.movedim(axis, -1), count).movedim(-1, axis)
    return x


def _window_mean(x: Tensor, count: int) -> Tensor:
    """Along the last axis; what is outside of a window may be NaN."""
    inside = _inside(x.shape[-1], count)
    return torch.where(inside, x.unsqueeze(-2), 0).sum(-1) / inside.sum(-1)


def _inside(length: Any, count: int) -> Tensor:
    """Which values each window has: (count, length)."""
    place, index = torch.arange(length), torch.arange(count).unsqueeze(-1)
    start, end = index * length // count, -(-(index + 1) * length // count)
    inside: Tensor = (place >= start) & (place < end)
    return inside


def applies(node: Node) -> bool:
    """Whether ONNX needs it written out."""
    pooled: Any = node.args[0]
    size: Any = node.args[1]
    return node.target not in _MEANS or _is_written_out(pooled.meta["val"], size)


def _is_written_out(x: Tensor, size: Sequence[int]) -> bool:
    is_fixed = all(isinstance(length, int) for length in x.shape[-len(size) :])
    return any(count != 1 for count in size) and (len(size) == 3 or not is_fixed)


_MEANS: Final = {
    getattr(_aten, f"adaptive_avg_pool{rank}d").default: _mean_pool for rank in (1, 2, 3)
}
LARGEST: Final[Mapping[Any, Callable[..., Any]]] = {
    getattr(_aten, f"adaptive_max_pool{rank}d").default: _max_pool for rank in (1, 2, 3)
}
TABLE: Final[Mapping[Any, Callable[..., Any]]] = {**_MEANS, **LARGEST}

_nn: Final = getattr(torch._C, "_nn")  # noqa: B009  # of which pyright knows nothing
WHILE_CAPTURED: Final[Sequence[tuple[Any, str, Callable[..., Any]]]] = (
    (torch, "adaptive_max_pool1d", _captured(torch.adaptive_max_pool1d, 1)),
    (_nn, "adaptive_max_pool2d", _captured(_nn.adaptive_max_pool2d, 2)),
    (_nn, "adaptive_max_pool3d", _captured(_nn.adaptive_max_pool3d, 3)),
)
"""Owner, name and what stands there while torch.export runs."""
