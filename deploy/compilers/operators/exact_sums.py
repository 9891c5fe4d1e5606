"""Sums of many values, and what is made of them, written out: ONNX Runtime's are less exact.

On the CPU, ONNX Runtime 1.31.1 adds values up in one float32 or a few, torch adds sums of sums. Of
10,000 equal values its mean is off by 1e-5 to 1e-4 of them, of a million by 1e-3; torch's by 1e-7.
Its InstanceNormalization, which is ONNX's word for GroupNorm and InstanceNorm, adds up as well: of
200,000 values around 10 the error is 1.7e-5 of their deviation.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from .counting import with_axes_last
from .decompositions import ONNX_TABLE
from .doubles import scaled
from .empty import count_of, spread_overloads

_aten: Any = torch.ops.aten

_BLOCK: Final = 64
_STAGES: Final = 2
"""Sums of blocks, before what is left is added up: a million values are 245 then."""

_is_inner: Final = ContextVar("is_inner", default=False)
"""Whether a sum is one that these functions make themselves, and stays."""


def mean(
    x: Tensor,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Any:
    """As ``aten.mean``; torch's exporter would convert the mean to a wider ``dtype``, not x."""
    if dtype == torch.float64 and _is_narrow(x):
        with _inner():
            return x.double().mean(None if dim is None else list(dim), keepdim)
    return _reduced(_mean, x, dim, keepdim, dtype)


def total(
    x: Tensor,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Any:
    """As ``aten.sum``."""
    return _reduced(_sum, x, dim, keepdim, dtype)


def nansum(
    x: Tensor,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Any:
    """As ``aten.nansum``."""
    return total(torch.where(x.isnan(), 0, x), dim, keepdim, dtype=dtype)


def nanmean(
    x: Tensor,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Any:
    """As ``aten.nanmean``."""
    found = nansum(x, dim, keepdim, dtype=dtype)
    if found is NotImplemented:
        return NotImplemented
    numbers = x.isnan().logical_not()
    return found / (numbers.sum() if dim is None else numbers.sum(list(dim), keepdim))


def einsum(equation: str, operands: Sequence[Tensor], *, path: object = None) -> Any:
    """As ``aten.einsum`` of one tensor, whose missing axes are added up."""
    found = with_axes_last(equation, operands)
    return NotImplemented if found is None else total(*found)


def squared_error(x: Tensor, y: Tensor, reduction: int = 1) -> Any:
    """As ``aten.mse_loss``: 0 for none, 1 for the mean, 2 for the sum."""
    found = (x - y).square()
    return (found, mean(found), total(found))[reduction] if _is_narrow(found) else NotImplemented


def average_pool(x: Tensor, size: Sequence[int]) -> Any:
    """As ``aten.adaptive_avg_pool1d`` to ``3d``: a mean, if it is to one value."""
    if all(count == 1 for count in size):
        return mean(x, range(-len(size), 0), keepdim=True)
    own = ONNX_TABLE.get(_POOLS[len(size)])
    return NotImplemented if own is None else own(x, size)


def variance(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Any:
    """As ``aten.var.correction``."""
    less = 1 if correction is None else correction
    return _reduced(lambda wide, axes: _variance(wide, axes, less), x, dim, keepdim)


def deviation(
    x: Tensor,
    dim: Sequence[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> Any:
    """As ``aten.std.correction``."""
    found = variance(x, dim, correction=correction, keepdim=keepdim)
    return NotImplemented if found is NotImplemented else found.sqrt()


def norm(
    x: Tensor,
    ord: float = 2,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Any:
    """As ``aten.linalg_vector_norm``."""
    if ord != 2:
        return NotImplemented
    return _reduced(lambda wide, axes: _sum(wide.square(), axes).sqrt(), x, dim, keepdim, dtype)


def matrix_norm(
    x: Tensor,
    ord: str = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Any:
    """As ``aten.linalg_matrix_norm.str_ord``."""
    return norm(x, 2, dim, keepdim, dtype=dtype) if ord == "fro" else NotImplemented


def cosine_similarity(x: Tensor, y: Tensor, dim: int = 1, eps: float = 1e-8) -> Any:
    """As ``aten.cosine_similarity``."""
    if not _is_narrow(x) or not _is_narrow(y):
        return NotImplemented
    # the axis is one of both; torch has no types for it
    x, y = torch.broadcast_tensors(x, y)  # type: ignore[no-untyped-call]
    lengths = [norm(each, 2, [dim], True).clamp(min=eps) for each in (x, y)]
    return total(x / lengths[0] * (y / lengths[1]), [dim])


def logsumexp(x: Tensor, dim: Sequence[int], keepdim: bool = False) -> Any:
    """As ``aten.logsumexp``."""
    return _reduced(_logsumexp, x, dim, keepdim)


def cumsum(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """As ``aten.cumsum``, of which torch adds up in float64 too."""
    x = x if dtype is None else x.to(dtype)
    return x.double().cumsum(dim).to(x.dtype) if _is_narrow(x) else NotImplemented


def layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Any:
    """As ``aten.layer_norm``: over the last axes."""
    if not _is_narrow(x):
        return NotImplemented
    found = _normalised(x, list(range(x.dim() - len(shape), x.dim())), eps)
    found = found if weight is None else found * weight
    return found if bias is None else found + bias


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    """As ``aten.group_norm``: x (batch, channels, ...)."""
    if not _is_narrow(x):
        return NotImplemented
    grouped = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    found = _normalised(grouped, list(range(2, grouped.dim())), eps)
    return scaled(found.flatten(1, 2), weight, bias)


def instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    """As ``aten.instance_norm``: x (batch, channels, ...), each channel by its own values."""
    if not use_input_stats or not _is_narrow(x):
        return NotImplemented
    return scaled(_normalised(x, list(range(2, x.dim())), eps), weight, bias)


def batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:
    """As ``aten._native_batch_norm_legit.no_stats``: each channel by the values of all rows."""
    if not training or not _is_narrow(x):
        return NotImplemented
    axes = [axis for axis in range(x.dim()) if axis != 1]
    saved = x.new_empty(0)  # for gradients
    return scaled(_normalised(x, axes, eps), weight, bias), saved, saved


def _with_mean(spread: Callable[..., Any]) -> Callable[..., Any]:
    """As ``aten.var_mean`` and ``std_mean``: a spread and the mean."""

    def found(
        x: Tensor,
        dim: Sequence[int] | None = None,
        *,
        correction: float | None = None,
        keepdim: bool = False,
    ) -> Any:
        first = spread(x, dim, correction=correction, keepdim=keepdim)
        return NotImplemented if first is NotImplemented else (first, mean(x, dim, keepdim))

    return found


def _reduced(
    reduce: Callable[[Tensor, list[int]], Tensor],
    x: Tensor,
    dim: Sequence[int] | None,
    keepdim: bool,
    dtype: torch.dtype | None = None,
) -> Any:
    x = x if dtype is None else x.to(dtype)
    if not _is_narrow(x) or x.dim() == 0:
        return NotImplemented
    axes = [axis % x.dim() for axis in dim or range(x.dim())]
    found = reduce(x.float(), axes).to(x.dtype)
    return found if keepdim else found.squeeze(axes)


def _is_narrow(x: Tensor) -> bool:
    """Whether it is of float32 or less, and none of our own sums."""
    return x.dtype in (torch.float32, torch.float16, torch.bfloat16) and not _is_inner.get()


def _normalised(x: Tensor, axes: list[int], eps: float) -> Tensor:
    wide = x.float()
    centred = wide - _mean(wide, axes)
    spread = _sum(centred.square(), axes) / count_of(x, axes)
    return (centred / (spread + eps).sqrt()).to(x.dtype)


def _variance(x: Tensor, axes: list[int], less: float) -> Tensor:
    return _sum((x - _mean(x, axes)).square(), axes) / (count_of(x, axes) - less)


def _mean(x: Tensor, axes: list[int]) -> Tensor:
    """Of equal values exactly their value, so that nothing is left when it is taken off."""
    count = count_of(x, axes)
    first = _sum(x, axes) / count
    return torch.where(first.isfinite(), first + _sum(x - first, axes) / count, first)


def _logsumexp(x: Tensor, axes: list[int]) -> Tensor:
    largest = x.amax(axes, True)
    largest = torch.where(largest.isfinite(), largest, 0)
    return _sum((x - largest).exp(), axes).log() + largest


def _sum(x: Tensor, axes: list[int]) -> Tensor:
    """Over axes, which stay, of one element: sums of sums of blocks."""
    kept = [axis for axis in range(x.dim()) if axis not in axes]
    rows = x.permute(*kept, *axes).reshape(count_of(x, kept), count_of(x, axes))
    with _inner():
        for _ in range(_STAGES):
            rows = _blocks(rows).sum(-1)
        found = rows.sum(-1)
    return found.reshape([1 if axis in axes else x.shape[axis] for axis in range(x.dim())])


def _blocks(rows: Tensor) -> Tensor:
    """(n, count) -> (n, blocks, size): what divides a known count, or 64 and zeros at the end."""
    n, count = rows.shape
    sizes = range(_BLOCK, _BLOCK // 2, -1) if isinstance(count, int) else ()
    size = next((size for size in sizes if count % size == 0), _BLOCK)
    return functional.pad(rows, (0, -count % size)).reshape(n, -1, size)


@contextlib.contextmanager
def _inner() -> Iterator[None]:
    token = _is_inner.set(True)
    try:
        yield
    finally:
        _is_inner.reset(token)


_POOLS: Final = {
    1: _aten.adaptive_avg_pool1d.default,
    2: _aten.adaptive_avg_pool2d.default,
    3: _aten.adaptive_avg_pool3d.default,
}

_SPREADS: Final = {
    _aten.var: variance,
    _aten.std: deviation,
    _aten.var_mean: _with_mean(variance),
    _aten.std_mean: _with_mean(deviation),
}

TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.mean.default: mean,
    _aten.mean.dim: mean,
    _aten.sum.default: total,
    _aten.sum.dim_IntList: total,
    _aten.nansum.default: nansum,
    _aten.nanmean.default: nanmean,
    _aten.einsum.default: einsum,
    _aten.mse_loss.default: squared_error,
    **{
        overload: function
        for packet, spread in _SPREADS.items()
        for overload, function in spread_overloads(packet, spread).items()
    },
    _aten.linalg_vector_norm.default: norm,
    _aten.linalg_matrix_norm.str_ord: matrix_norm,
    _aten.cosine_similarity.default: cosine_similarity,
    _aten.logsumexp.default: logsumexp,
    _aten.cumsum.default: cumsum,
    **dict.fromkeys(_POOLS.values(), average_pool),
    _aten.layer_norm.default: layer_norm,
    _aten.group_norm.default: group_norm,
    _aten.instance_norm.default: instance_norm,
    _aten._native_batch_norm_legit.no_stats: batch_norm,
}
