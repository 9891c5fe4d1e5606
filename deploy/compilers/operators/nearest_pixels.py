"""Images resized to their nearest pixels, at the places that torch takes.

From 14 to 32 pixels the 16th is in the middle of two: torch multiplies by 14/32, ONNX Runtime
(1.31.1) divides by 32/14, and where neither is a float32 each rounds to another pixel. Where both
are, or agree at every place, its kernel stays, which is several times as fast.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from .exact_resizing import is_of_one_size
from .fx_nodes import arguments, value_of
from .symbols import always

_aten: Any = torch.ops.aten  # operators are made on demand: no types
_whole: Any = torch.sym_int  # torch has no types for it

_TIMES: Final = range(1, 9)
"""Factors between two free sizes that are recognised."""
_MANY: Final = 4096
"""Pixels of an image whose size is free, of which both answers are compared."""


def _resized(x: Tensor, size: Sequence[Any] | None, factors: Sequence[float] | None = None) -> Any:
    """As ``aten.upsample_nearest...vec``: x (batch, channels, ...) to other sizes of the rest."""
    asked = [*_asked(x.shape[2:], size, factors)]
    if all(_is_kept(*each) for each in asked):
        return NotImplemented
    for axis, (old, count, factor) in enumerate(asked, start=2):
        step = 1 / factor if factor else old / count
        places = (torch.arange(count, device=x.device).float() * step).long()
        x = x.index_select(axis, places.clamp_max(old - 1))
    return x


def _asked(
    shape: Sequence[Any], size: Sequence[Any] | None, factors: Sequence[float] | None
) -> Iterator[tuple[Any, Any, float | None]]:
    """Of each axis: how many pixels there are, how many there will be, and by which factor."""
    if size is not None:
        yield from ((old, count, None) for old, count in zip(shape, size, strict=True))
        return
    for old, factor in zip(shape, factors or (), strict=True):
        yield old, _whole(old * factor), factor


def _is_kept(old: Any, count: Any, factor: float | None) -> bool:
    """Whether ONNX Runtime takes torch's pixels: it is told how many there will be, or a factor."""
    if factor is not None:
        most = _MANY if isinstance(old, torch.SymInt) else count
        return is_of_one_size(old, factor) and _agree(most, 1 / factor, np.float32(factor))
    if isinstance(old, int) and isinstance(count, int):
        return _agree(count, old / count, np.float32(count) / np.float32(old))
    for times in _TIMES:
        if always(count == times * old):
            return _agree(_MANY, 1 / times, np.float32(times))
        if always(old == times * count):
            return _agree(_MANY, times, 1 / np.float32(times))
    return False


def _agree(count: int, step: float, factor: Any) -> bool:
    """Whether torch, which multiplies by a step, and ONNX Runtime, which divides, do everywhere."""
    places = np.arange(count, dtype=np.float32)
    return _alike(places * np.float32(step), places / factor)


def _alike(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.floor(one), np.floor(other)))


TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.upsample_nearest1d.vec: _resized,
    _aten.upsample_nearest2d.vec: _resized,
    _aten.upsample_nearest3d.vec: _resized,
}


def applies(node: Node) -> bool:
    """Whether a node with one of these operators may take other pixels than torch."""
    x, size, factors = arguments(node).values()
    sizes = size and [*map(value_of, size)]
    return not all(_is_kept(*each) for each in _asked(value_of(x).shape[2:], sizes, factors))
