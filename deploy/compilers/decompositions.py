"""Operators that ONNX lacks, or that torch's exporter translates wrongly, in those that it has.

The table is given to ``ExportedProgram.run_decompositions``. A function returns
``NotImplemented`` for what it does not cover, and the operator stays as it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from . import small_matrices

_aten: Any = torch.ops.aten  # operators are made on demand: no types

_LANCZOS: Final = (
    0.99999999999980993,
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
)
"""Lanczos approximation of the gamma function, g = 7, n = 9: 15 digits in float64."""

_G: Final = 7.0

_EXPORTED_RANK: Final = 4


def _median(x: Tensor) -> Tensor:
    flat = x.flatten()
    found = flat.sort().values[(x.numel() - 1) // 2]
    return torch.where(flat.isnan().any(), math.nan, found) if x.is_floating_point() else found


def _median_along(x: Tensor, dim: int, keepdim: bool = False) -> Any:
    if not x.dim():
        return _KEEP
    values, index = _kth(x, (x.shape[dim] - 1) // 2, dim, keepdim)
    if not x.is_floating_point():
        return values, index
    missing = x.isnan()  # one of them makes the median NaN, and ONNX sorts them anywhere
    some = missing.any(dim, keepdim)
    first = missing.to(torch.int64).argmax(dim, keepdim)
    return torch.where(some, math.nan, values), torch.where(some, first, index)


def _kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    return _kth(x, k - 1, dim, keepdim) if x.dim() else NotImplemented


def _kth(x: Tensor, place: int, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    values, index = x.sort(dim)
    found = (part.narrow(dim, place, 1) for part in (values, index))
    kept = found if keepdim else (part.squeeze(dim) for part in found)
    first, second = kept
    return first, second


def _cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    if not _is_fixed(x, dim):
        return _KEEP
    kept = x.is_floating_point() or x.is_complex()
    x = x.to(dtype or (x.dtype if kept else torch.int64))
    return _scanned((x,), dim, lambda a, b: (a[0] * b[0],))[0]


def _logcumsumexp(x: Tensor, dim: int) -> Any:
    if not _is_fixed(x, dim):
        return _KEEP
    return _scanned((x,), dim, lambda a, b: (_logaddexp(a[0], b[0]),))[0]


def _logaddexp(x: Tensor, y: Tensor) -> Tensor:
    """The exporter takes exponentials of the values themselves, which overflow."""
    apart = torch.where(x == y, 0, (x - y).abs())  # equal infinities too
    rest: Tensor = _log1p(torch.exp(-apart))
    return torch.maximum(x, y) + rest


def _log1p(x: Tensor) -> Any:
    """The exporter rounds 1 + x; this divides that rounding out (Kahan; Higham, 2002, 1.14.1)."""
    if not x.is_floating_point():
        return _KEEP
    sum_ = 1 + x
    exact = (sum_ == 1) | (sum_ == math.inf)
    other = torch.where(exact, torch.full_like(x, 2), sum_)
    return torch.where(exact, x, other.log() * (x / (other - 1)))


def _expm1(x: Tensor) -> Any:
    """The exporter subtracts what the exponential was rounded to; as ``_log1p``."""
    if not x.is_floating_point():
        return _KEEP
    power = x.exp()
    plain = (power == 1) | (x.abs() >= 1)  # far from 0 nothing cancels
    other = torch.where(plain, torch.full_like(x, 2), power)
    near = (other - 1) * (x / other.log())
    return torch.where(plain, torch.where(power == 1, x, power - 1), near)


def _cummax(x: Tensor, dim: int) -> Any:
    return _cumulative_extreme(x, dim, torch.ge)


def _cummin(x: Tensor, dim: int) -> Any:
    return _cumulative_extreme(x, dim, torch.le)


def _cumulative_extreme(x: Tensor, dim: int, takes_over: Callable[[Tensor, Tensor], Tensor]) -> Any:
    if not _is_fixed(x, dim):
        return _KEEP
    shape = [x.shape[dim] if axis == dim % x.dim() else 1 for axis in range(x.dim())]
    places = torch.arange(x.shape[dim]).reshape(shape).expand(x.shape)

    def combine(a: Sequence[Tensor], b: Sequence[Tensor]) -> tuple[Tensor, ...]:
        later = takes_over(b[0], a[0])
        if x.is_floating_point():
            later = later | b[0].isnan()
        return tuple(torch.where(later, right, left) for left, right in zip(a, b, strict=True))

    return _scanned((x, places), dim, combine)


_Parts = tuple[Tensor, ...]


def _scanned(parts: _Parts, dim: int, combine: Callable[[_Parts, _Parts], _Parts]) -> _Parts:
    """An inclusive scan in log2(n) steps over an axis of fixed size (Hillis and Steele, 1986)."""
    size, step = parts[0].shape[dim], 1
    while step < size:
        head = tuple(part.narrow(dim, 0, step) for part in parts)
        before = tuple(part.narrow(dim, 0, size - step) for part in parts)
        after = tuple(part.narrow(dim, step, size - step) for part in parts)
        tail = combine(before, after)
        parts = tuple(torch.cat(pair, dim) for pair in zip(head, tail, strict=True))
        step *= 2
    return parts


def _searchsorted(
    edges: Tensor,
    x: Tensor,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Any:
    edges = edges if sorter is None else edges.gather(-1, sorter)
    each = edges if edges.dim() == 1 else edges.unsqueeze(-2)
    passed = torch.gt if right or side == "right" else torch.ge
    below = passed(each, x.unsqueeze(-1)).logical_not()  # NaN is above all edges
    return below.sum(-1, dtype=torch.int32 if out_int32 else torch.int64)


def _searchsorted_scalar(edges: Tensor, x: float, **options: Any) -> Any:
    return _searchsorted(edges, torch.full((), x, dtype=edges.dtype), **options)


def _bucketize(x: Tensor, edges: Tensor, *, out_int32: bool = False, right: bool = False) -> Any:
    return _searchsorted(edges, x, out_int32=out_int32, right=right)


def _divide(x: Tensor, y: Tensor | int, *, rounding_mode: str | None = None) -> Any:
    """Torch's exporter divides integers as float32, which is wrong above 2^24."""
    if rounding_mode is None or not (_is_integer(x) and _is_integer(y)):
        return _KEEP
    down = x // y
    if rounding_mode == "floor":
        return down
    inexact = (down * y != x) & ((x < 0) != (y < 0))
    return down + inexact.to(down.dtype)


def _fmod(x: Tensor, y: Tensor | int) -> Any:
    if not (_is_integer(x) and _is_integer(y)):
        return _KEEP
    return x - _divide(x, y, rounding_mode="trunc") * y


def _scatter_reduce(
    x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Any:
    if reduce != "mean":
        return _KEEP
    source = source[tuple(slice(size) for size in index.shape)]
    ones = torch.ones_like(source)
    count = torch.zeros_like(x).scatter_add(dim, index, ones)
    total = torch.zeros_like(x).scatter_add(dim, index, source)
    if include_self:
        total, count = total + x, count + 1
    whole = not x.is_floating_point()
    mean = total // count.clamp(min=1) if whole else total / count.clamp(min=1)
    return torch.where(count > 0, mean, x)


def _as_strided(
    x: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> Any:
    """A view of a dense tensor: its values in the order of memory, gathered.

    The exporter takes the strides for those of a contiguous tensor.
    """
    strides = list(x.stride())
    order = sorted(range(x.dim()), key=lambda axis: -strides[axis])
    memory = x.permute(order).reshape(-1)
    place = torch.full([1] * len(size), storage_offset or 0)
    for axis, (length, step) in enumerate(zip(size, stride, strict=True)):
        shape = [length if other == axis else 1 for other in range(len(size))]
        place = place + torch.arange(length).reshape(shape) * step
    return memory[place.expand(size)]


def _lgamma(x: Tensor) -> Tensor:
    """By reflection and Lanczos' approximation, in float64."""
    wide = x.double()
    pole = ((wide <= 0) & (wide == wide.floor())) | wide.isinf()
    wide = torch.where(pole, torch.ones_like(wide), wide)
    low = wide < 0.5
    z = torch.where(low, 1 - wide, wide) - 1
    series = torch.full_like(z, _LANCZOS[0])
    for n, coefficient in enumerate(_LANCZOS[1:], 1):
        series = series + coefficient / (z + n)
    base = z + _G + 0.5
    large = 0.5 * math.log(2 * math.pi) + (z + 0.5) * base.log() - base + torch.log(series)
    small = math.log(math.pi) - (math.pi * (wide - wide.round())).sin().abs().log() - large
    return torch.where(pole, math.inf, torch.where(low, small, large)).to(x.dtype)


def _fmax(x: Tensor, y: Tensor) -> Any:
    return _without_nan(torch.maximum, x, y)


def _fmin(x: Tensor, y: Tensor) -> Any:
    return _without_nan(torch.minimum, x, y)


def _without_nan(extreme: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    return torch.where(y.isnan(), x, torch.where(x.isnan(), y, extreme(x, y)))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Attention written out: the exporter takes queries of four axes only."""
    if query.dim() == _EXPORTED_RANK or dropout_p or enable_gqa:
        return _KEEP
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.transpose(-1, -2) * factor
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is None:
        return scores.softmax(-1) @ value
    masked = attn_mask.dtype == torch.bool
    scores = torch.where(attn_mask, scores, -math.inf) if masked else scores + attn_mask
    nothing = (scores == -math.inf).all(-1, keepdim=True)  # to attend to
    return torch.where(nothing, 0, scores.softmax(-1)) @ value


def _rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *rest: Any) -> Any:
    return _KEEP if any(rest[:1]) else torch.nn.functional.leaky_relu(x, (lower + upper) / 2)


def _rrelu_with_noise(x: Tensor, noise: Tensor, *bounds: Any) -> Any:
    found = _rrelu(x, *bounds)
    return found if found is NotImplemented else (found, noise)


def _adaptive_max_pool2d(x: Tensor, size: Sequence[int]) -> Any:
    if not all(isinstance(length, int) for length in x.shape[-2:]):
        return _KEEP
    rows, columns = _bins(x.shape[-2], size[0]), _bins(x.shape[-1], size[1])
    found = [[_window_max(x, row, column) for column in columns] for row in rows]
    values, places = (
        torch.stack([torch.stack([cell[part] for cell in row], -1) for row in found], -2)
        for part in (0, 1)
    )
    return values, places


def _adaptive_max_pool1d(x: Tensor, size: Sequence[int]) -> Any:
    found = _adaptive_max_pool2d(x.unsqueeze(-2), (1, *size))
    return _KEEP if found is _KEEP else tuple(part.squeeze(-2) for part in found)


def _bins(length: int, count: int) -> list[tuple[int, int]]:
    return [(n * length // count, -((-(n + 1) * length) // count)) for n in range(count)]


def _window_max(x: Tensor, row: tuple[int, int], column: tuple[int, int]) -> tuple[Tensor, Tensor]:
    width = column[1] - column[0]
    window = x[..., row[0] : row[1], column[0] : column[1]]
    values, place = window.flatten(-2).max(-1)
    return values, (place // width + row[0]) * x.shape[-1] + place % width + column[0]


def cdist(
    x: Tensor, y: Tensor, p: float = 2.0, compute_mode: str | None = None
) -> Tensor:  # as torch.cdist
    """Distances between rows, without the fast path that fixes how many rows there are."""
    apart = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()  # (..., P, R, M)
    if p == 0:
        return (apart != 0).to(x.dtype).sum(-1)
    if math.isinf(p):
        return apart.amax(-1)
    if p == 1:
        return apart.sum(-1)
    return apart.square().sum(-1).sqrt() if p == 2 else apart.pow(p).sum(-1).pow(1 / p)


def _cdist_forward(x: Tensor, y: Tensor, p: float, compute_mode: int | None) -> Tensor:
    return cdist(x, y, p)


def _log_sigmoid(x: Tensor) -> Tensor:
    """The exporter takes the logarithm of a sigmoid, which underflows."""
    return x.clamp(max=0) - torch.log1p(torch.exp(-x.abs()))


def _is_integer(x: Tensor | float) -> bool:
    return not x.is_floating_point() if isinstance(x, Tensor) else isinstance(x, int)


def _is_fixed(x: Tensor, dim: int) -> bool:
    return x.dim() > 0 and isinstance(x.shape[dim], int)


_KEEP: Final = NotImplemented

_ATTENTION: Final = _aten.scaled_dot_product_attention.default

TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.median.default: _median,
    _aten.median.dim: _median_along,
    _aten.kthvalue.default: _kthvalue,
    _aten.cumprod.default: _cumprod,
    _aten.cummax.default: _cummax,
    _aten.cummin.default: _cummin,
    _aten.logcumsumexp.default: _logcumsumexp,
    _aten.logaddexp.default: _logaddexp,
    _aten.log1p.default: _log1p,
    _aten.expm1.default: _expm1,
    _aten.searchsorted.Tensor: _searchsorted,
    _aten.searchsorted.Scalar: _searchsorted_scalar,
    _aten.bucketize.Tensor: _bucketize,
    _aten.div.Tensor_mode: _divide,
    _aten.div.Scalar_mode: _divide,
    _aten.fmod.Tensor: _fmod,
    _aten.fmax.default: _fmax,
    _aten.fmin.default: _fmin,
    _aten.fmod.Scalar: _fmod,
    _aten.scatter_reduce.two: _scatter_reduce,
    _aten.as_strided.default: _as_strided,
    _aten.lgamma.default: _lgamma,
    _aten.rrelu.default: _rrelu,
    _aten.rrelu_with_noise_functional.default: _rrelu_with_noise,
    _aten.adaptive_max_pool1d.default: _adaptive_max_pool1d,
    _aten.adaptive_max_pool2d.default: _adaptive_max_pool2d,
    _aten._cdist_forward.default: _cdist_forward,
    _ATTENTION: _attention,
    _aten.log_sigmoid.default: _log_sigmoid,
    _aten.linalg_cholesky.default: small_matrices.cholesky,
    _aten.linalg_det.default: small_matrices.determinant,
    _aten.det.default: small_matrices.determinant,
    _aten.linalg_inv.default: small_matrices.inverse,
    _aten.inverse.default: small_matrices.inverse,
    _aten.linalg_solve.default: small_matrices.solve,
}


def applies(node: torch.fx.Node) -> bool:
    """Whether a node's operator is in the table, and its inputs are such that it is needed."""
    if node.target is _ATTENTION:
        query: Any = node.args[0]
        rank: int = query.meta["val"].dim()
        return rank != _EXPORTED_RANK
    return node.target in TABLE
