"""Reductions along axes that may have no elements, as where a mask chooses no row.

ONNX Runtime's mean of nothing is 0, and torch's NaN, as its variance is; the maximum of nothing is
the least number, by which torch's exporter finds whether any flag is set (1.31.1).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node

from .fx_nodes import arguments, value_of

_aten: Any = torch.ops.aten  # operators are made on demand: no types
_most: Any = torch.sym_max  # torch has no types for it

_Dim = int | Sequence[int] | None


def applies(node: Node) -> bool:
    """Whether a node reduces along such an axis."""
    given = arguments(node)
    return _may_be_empty(value_of(given["self"]), given.get("dim"))


def _may_be_empty(x: Tensor, dim: _Dim) -> bool:
    return any(_may_be_zero(x.shape[axis]) for axis in _axes(x, dim))


def _may_be_zero(size: Any) -> bool:
    """By the ranges of what it is made of: torch takes free sizes for positive numbers (2.13).

    Of sizes from 1 on, such as what a convolution leaves, the proof tries the smallest.
    """
    if not isinstance(size, torch.SymInt):
        return bool(size == 0)
    known, made = size.node.shape_env, size.node.expr.free_symbols
    return any(bool(known.bound_sympy(each).lower <= 0) for each in made)


def _axes(x: Tensor, dim: _Dim) -> Sequence[int]:
    if isinstance(dim, int):
        return [dim] if x.dim() else []
    return dim or range(x.dim())


def _mean(
    x: Tensor, dim: _Dim = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Any:
    """As ``aten.mean``: a sum, divided by how many there are."""
    if (dtype or x.dtype) not in (torch.float32, torch.float64) or not _may_be_empty(x, dim):
        return NotImplemented
    axes = list(_axes(x, dim))
    return x.sum(axes, keepdim, dtype=dtype) / count_of(x, axes)


def count_of(x: Tensor, axes: Sequence[int]) -> int:
    """How many elements there are along some axes, taken together."""
    return math.prod(x.shape[axis] for axis in axes)


def _variance(
    x: Tensor, dim: _Dim = None, *, correction: float | None = None, keepdim: bool = False
) -> Any:
    """As ``aten.var.correction``."""
    mean = _mean(x, dim, keepdim=True)
    if mean is NotImplemented:
        return mean
    axes = list(_axes(x, dim))
    count = _most(count_of(x, axes) - (1 if correction is None else correction), 0)
    return (x - mean).square().sum(axes, keepdim) / count


def _deviation(x: Tensor, *args: Any, **options: Any) -> Any:
    found = _variance(x, *args, **options)
    return found if found is NotImplemented else found.sqrt()


def spread_overloads(packet: Any, spread: Callable[..., Any]) -> dict[Any, Callable[..., Any]]:
    """All overloads of ``var`` and the like, by what computes the one that takes a correction.

    The others are told whether to be unbiased in its place.
    """

    def along(x: Tensor, dim: _Dim, unbiased: bool = True, keepdim: bool = False) -> Any:
        return spread(x, dim, correction=int(unbiased), keepdim=keepdim)

    def of_all(x: Tensor, unbiased: bool = True) -> Any:
        return along(x, None, unbiased)

    return {packet.correction: spread, packet.dim: along, packet.default: of_all}


def _any(x: Tensor, dim: _Dim = None, keepdim: bool = False) -> Any:
    """As ``aten.any``: how many there are."""
    if not _may_be_empty(x, dim):
        return NotImplemented
    return (x != 0).sum(list(_axes(x, dim)), keepdim) > 0


def _all(x: Tensor, dim: _Dim = None, keepdim: bool = False) -> Any:
    found = _any(x == 0, dim, keepdim)
    return found if found is NotImplemented else ~found


TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    **spread_overloads(_aten.var, _variance),
    **spread_overloads(_aten.std, _deviation),
    _aten.mean.default: _mean,
    _aten.mean.dim: _mean,
    _aten.any.default: _any,
    _aten.any.dim: _any,
    _aten.any.dims: _any,
    _aten.all.default: _all,
    _aten.all.dim: _all,
    _aten.all.dims: _all,
}
