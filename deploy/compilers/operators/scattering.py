"""Writes to places by index: in ONNX there are as many as values, where torch may have fewer."""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node

from .fx_nodes import arguments, value_of
from .symbols import always

_aten: Any = torch.ops.aten  # operators are made on demand: no types
_scatter_reduce: Any = torch.scatter_reduce


def scattered(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Any:
    """As ``aten.scatter.src``."""
    used = _used(source, index)
    return NotImplemented if used is source else x.scatter(dim, index, used)


def copied(x: Tensor, source: Tensor, non_blocking: bool = False) -> Any:
    """As ``aten.copy``, which the exporter does not spread over more rows (torch 2.13)."""
    is_whole = x.dim() == source.dim() and all(
        always(own == given) for own, given in zip(x.shape, source.shape, strict=True)
    )
    return NotImplemented if is_whole else source.to(x.dtype).expand(x.shape)


def added(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Any:
    """As ``aten.scatter_add``."""
    used = _used(source, index)
    return NotImplemented if used is source else x.scatter_add(dim, index, used)


def reduced(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """As ``aten.scatter_reduce.two``, of which the exporter takes means for sums."""
    used = _used(source, index)
    if reduce == "mean":
        return _mean(x, dim, index, used, include_self=include_self)
    if used is source:
        return NotImplemented
    return _scatter_reduce(x, dim, index, used, reduce, include_self=include_self)


def _mean(x: Tensor, dim: int, index: Tensor, source: Tensor, *, include_self: bool) -> Tensor:
    ones = torch.ones_like(source)
    count = torch.zeros_like(x).scatter_add(dim, index, ones)
    total = torch.zeros_like(x).scatter_add(dim, index, source)
    if include_self:
        total, count = total + x, count + 1
    whole = not x.is_floating_point()
    mean = total // count.clamp(min=1) if whole else total / count.clamp(min=1)
    return torch.where(count > 0, mean, x)


def scattered_by(x: Tensor, dim: int, index: Tensor, source: Any, *, reduce: str) -> Any:
    """As ``aten.scatter.reduce``, of a tensor or a number."""
    if not isinstance(source, Tensor):
        source = torch.full_like(index, source, dtype=x.dtype)
    how = {"add": "sum", "multiply": "prod"}[reduce]
    return _scatter_reduce(x, dim, index, _used(source, index), how)


def reduced_by_index(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    """As ``aten.index_reduce``: each index is that of a whole slice."""
    if not x.dim() or not source.dim():
        return NotImplemented
    shape = [1] * source.dim()
    shape[dim] = -1
    places = index.long().reshape(shape).expand(source.shape)
    return _scatter_reduce(x, dim, places, source, reduce, include_self=include_self)


def put(x: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """As ``aten.put``, by places in the whole, of which negative ones count from its end."""
    flat, places = x.reshape(-1), index.reshape(-1)
    places = torch.where(places < 0, places + flat.shape[0], places)
    write = flat.scatter_add if accumulate else flat.scatter
    return write(0, places, source.reshape(-1)).reshape(x.shape)


def filled(
    x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Any:
    """As ``aten.index_put`` where ``x[mask] = 0``: a choice, without places that are counted."""
    mask = indices[0] if len(indices) == 1 else None
    if mask is None or accumulate or not _is_filling(x, mask, values):
        return NotImplemented
    behind = [1] * (x.dim() - mask.dim())
    return torch.where(mask.reshape(*mask.shape, *behind), values.to(x.dtype), x)


def fills(node: Node) -> bool:
    """Whether a node with ``aten.index_put`` writes the same everywhere in a mask."""
    given = arguments(node)
    masks = [*map(value_of, given["indices"])]
    return (
        len(masks) == 1
        and masks[0] is not None
        and not given["accumulate"]
        and _is_filling(value_of(given["self"]), masks[0], value_of(given["values"]))
    )


def _is_filling(x: Tensor, mask: Tensor, values: Tensor) -> bool:
    """Whether values have no axis for the places that a mask chooses."""
    return mask.dtype == torch.bool and values.dim() <= x.dim() - mask.dim()


def _used(source: Tensor, index: Tensor) -> Tensor:
    """What of the source there is a place for."""
    return source if _is_whole(source, index) else source[tuple(map(slice, index.shape))]


def _is_whole(source: Tensor, index: Tensor) -> bool:
    pairs: Any = zip(source.shape, index.shape, strict=True)
    return all(always(size == own) for size, own in pairs)


WHOLE: Final = (_aten.scatter.src, _aten.scatter_add.default, _aten.scatter_reduce.two)
"""Right as the exporter has them, if the source is whole."""


def applies(node: Node) -> bool:
    """Whether a node with one of these operators has to be written otherwise."""
    given = arguments(node)
    is_whole = _is_whole(value_of(given["src"]), value_of(given["index"]))
    return given.get("reduce") == "mean" or not is_whole
