"""Decompositions of what orders values, or runs along an axis."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from .elementwise import logaddexp

_Parts = tuple[Tensor, ...]

_UNLIMITED: Final = 2**31

_scalar_tensor: Any = torch.scalar_tensor  # its types know no free sizes


def median(x: Tensor) -> Tensor:
    """The lower median of all values; NaN if one of them is."""
    found: Tensor = median_along(x.flatten(), 0)[0]
    return found


def median_along(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    """The lower median along an axis and its place."""
    if not x.dim():
        return NotImplemented
    values, index = _kth(x, (x.shape[dim] - 1) // 2, dim, keepdim)
    if not x.is_floating_point():
        return values, index
    missing = x.isnan()  # one of them makes the median NaN, and ONNX sorts them anywhere
    some = missing.any(dim, keepdim)
    first = missing.to(torch.int64).argmax(dim, keepdim)
    return torch.where(some, math.nan, values), torch.where(some, first, index)


def nanmedian(x: Tensor) -> Tensor:
    """The lower median of all values that are numbers."""
    found: Tensor = nanmedian_along(x.flatten(), 0)[0]
    return found


def nanmedian_along(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    """The lower median along an axis of what is a number there, and its place."""
    if not x.dim():
        return NotImplemented
    if not x.is_floating_point():
        return median_along(x, dim, keepdim)
    values = without_nan(x).sort(dim).values
    count = x.isnan().logical_not().sum(dim, keepdim=True)
    place = ((count - 1) // 2).clamp(min=0)
    value = torch.where(count == 0, math.nan, values.gather(dim, place))
    found = (value, (x == value).long().argmax(dim, keepdim=True))
    first, second = (each if keepdim else each.squeeze(dim) for each in found)
    return first, second


def nanquantile(
    x: Tensor,
    q: Tensor | float,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
) -> Tensor:
    """As ``aten.nanquantile``: torch takes NaN for sorted to the end, where ONNX leaves it."""
    moved = x.flatten() if dim is None or not x.dim() else x.movedim(dim, -1)
    values = without_nan(moved).sort(-1).values
    count = moved.isnan().logical_not().sum(-1, keepdim=True)
    rank = q.reshape(-1) if isinstance(q, Tensor) else q
    place = ((count - 1).to(x.dtype) * rank).clamp(min=0)  # (..., Q)
    found = torch.where(count == 0, math.nan, _between(values, place, interpolation))
    found = found.movedim(-1, 0)  # (Q, ...)
    if keepdim and x.dim():
        found = (
            found.reshape(-1, *[1] * x.dim()) if dim is None else found.unsqueeze(dim % x.dim() + 1)
        )
    return found if isinstance(q, Tensor) and q.dim() else found.squeeze(0)


def _between(values: Tensor, place: Tensor, interpolation: str) -> Tensor:
    rounded = {"lower": torch.floor, "higher": torch.ceil, "nearest": torch.round}
    if interpolation in rounded:
        return values.gather(-1, rounded[interpolation](place).long())
    below = place.long()
    left, right = (values.gather(-1, each) for each in (below, place.ceil().long()))
    weight = torch.full_like(place, 0.5) if interpolation == "midpoint" else place - below
    return torch.lerp(left, right, weight)


def without_nan(x: Tensor, instead: float = math.inf) -> Tensor:
    """NaN as another number: the largest is at the end where it is sorted."""
    return torch.where(x.isnan(), instead, x) if x.is_floating_point() else x


def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest value along an axis and its place."""
    return _kth(x, k - 1, dim, keepdim) if x.dim() else NotImplemented


def _kth(x: Tensor, place: int, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    first, second = (part.select(dim, place) for part in x.sort(dim))
    return (first.unsqueeze(dim), second.unsqueeze(dim)) if keepdim else (first, second)


def bincount(x: Tensor, weights: Tensor | None = None, minlength: Any = 0) -> Any:
    """How often each number occurs; the exporter takes no weights, and no free size.

    One more of the largest number that has a place is counted first, among numbers that are each
    one larger, so that there may be no place at all, and left out again.
    """
    if weights is None and isinstance(minlength, int):
        return NotImplemented
    if isinstance(minlength, int):
        count = torch.bincount(x, minlength=minlength)
    else:
        last: Tensor = _scalar_tensor(minlength, dtype=torch.int64)
        count = torch.bincount(torch.cat([x.long() + 1, last.unsqueeze(0)]))
        place = torch.arange(count.shape[0])
        count = (count - (place == last))[place > 0]  # by a mask: it needs a size with a name
    if weights is None:
        return count
    kind = torch.float32 if weights.dtype == torch.float32 else torch.float64
    return torch.zeros_like(count, dtype=kind).scatter_add(0, x.long(), weights.to(kind))


def largest_along(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    """Of flags, which ONNX's ArgMax does not take."""
    if x.dtype != torch.bool:
        return NotImplemented
    values, places = x.int().max(dim, keepdim)
    return values.bool(), places


def smallest_along(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    """Of flags, too."""
    if x.dtype != torch.bool:
        return NotImplemented
    values, places = x.int().min(dim, keepdim)
    return values.bool(), places


def sort_stably(
    x: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor]:
    """By ONNX's TopK, which puts the lower place of equal values first by its definition."""
    if x.dtype == torch.bool:  # which TopK does not take
        values, places = x.int().sort(dim, descending)
        return values.bool(), places
    values, places = x.sort(dim, descending)
    return values, places


def argsort_stably(x: Tensor, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    """The places alone."""
    return sort_stably(x, stable=stable, dim=dim, descending=descending)[1]


def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """Running product."""
    if not _has_end(x, dim):
        return NotImplemented
    kept = x.is_floating_point() or x.is_complex()
    x = x.to(dtype or (x.dtype if kept else torch.int64))
    return _scanned((x,), dim, lambda a, b: (a[0] * b[0],))[0]


def logcumsumexp(x: Tensor, dim: int) -> Any:
    """Running logarithm of the sum of exponentials."""
    if not _has_end(x, dim):
        return NotImplemented
    return _scanned((x,), dim, lambda a, b: (logaddexp(a[0], b[0]),))[0]


def cummax(x: Tensor, dim: int) -> Any:
    """Running maximum and its last place."""
    return _cumulative_extreme(x, dim, torch.ge)


def cummin(x: Tensor, dim: int) -> Any:
    """Running minimum and its last place."""
    return _cumulative_extreme(x, dim, torch.le)


def _cumulative_extreme(x: Tensor, dim: int, takes_over: Callable[[Tensor, Tensor], Tensor]) -> Any:
    if not _has_end(x, dim):
        return NotImplemented
    shape = [x.shape[dim] if axis == dim % x.dim() else 1 for axis in range(x.dim())]
    places = torch.arange(x.shape[dim]).reshape(shape).expand(x.shape)

    def combine(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[Tensor, ...]:
        later = takes_over(b[0], a[0])
        if x.is_floating_point():
            later = later | b[0].isnan()
        return tuple(torch.where(later, right, left) for left, right in zip(a, b, strict=True))

    return _scanned((x, places), dim, combine)


def _scanned(parts: _Parts, dim: int, combine: Callable[[_Parts, _Parts], _Parts]) -> _Parts:
    """An inclusive scan in log2(n) steps (Hillis and Steele, 1986).

    Of a free size there are as many steps as the largest takes: the late ones change nothing.
    """
    is_fixed = isinstance(parts[0].shape[dim], int)
    most, step = _most(parts[0], dim), 1
    while step < most:
        parts = (_step_of_fixed if is_fixed else _step_of_free)(parts, dim, step, combine)
        step *= 2
    return parts


def _step_of_fixed(
    parts: _Parts, dim: int, step: int, combine: Callable[[_Parts, _Parts], _Parts]
) -> _Parts:
    size = parts[0].shape[dim]
    head = tuple(part.narrow(dim, 0, step) for part in parts)
    before = tuple(part.narrow(dim, 0, size - step) for part in parts)
    after = tuple(part.narrow(dim, step, size - step) for part in parts)
    tail = combine(before, after)
    return tuple(torch.cat(pair, dim) for pair in zip(head, tail, strict=True))


def _step_of_free(
    parts: _Parts, dim: int, step: int, combine: Callable[[_Parts, _Parts], _Parts]
) -> _Parts:
    """The step may be longer than the axis, which no slice is."""
    shape = [1] * parts[0].dim()
    shape[dim] = parts[0].shape[dim]
    place = torch.arange(parts[0].shape[dim])
    before = tuple(part.index_select(dim, (place - step).clamp(min=0)) for part in parts)
    is_first = (place < step).reshape(shape)
    found = combine(before, parts)
    return tuple(torch.where(is_first, *pair) for pair in zip(parts, found, strict=True))


def searchsorted(
    edges: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Any:
    """How many edges lie below each value."""
    edges = edges if sorter is None else edges.gather(-1, sorter)
    each = edges if edges.dim() == 1 else edges.unsqueeze(-2)
    passed = torch.gt if right or side == "right" else torch.ge
    below = passed(each, x.unsqueeze(-1)).logical_not()  # NaN is above all edges
    return below.sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


def searchsorted_scalar(edges: Tensor, x: float, **options: Any) -> Any:
    """How many edges lie below a number."""
    return searchsorted(edges, torch.full((), x, dtype=edges.dtype), **options)


def bucketize(x: Tensor, edges: Tensor, *, out_int32: bool = False, right: bool = False) -> Any:
    """As ``searchsorted``, with the arguments the other way round."""
    return searchsorted(edges, x, out_int32=out_int32, right=right)


def _has_end(x: Tensor, dim: int) -> bool:
    return x.dim() > 0 and _most(x, dim) < _UNLIMITED


def _most(x: Tensor, dim: int) -> int:
    """The largest that a size is declared to be."""
    size: Any = x.shape[dim]
    if isinstance(size, int):
        return size
    most = size.node.shape_env.bound_sympy(size.node.expr).upper
    return int(min(most, _UNLIMITED))
