"""Operators that ONNX lacks, or that torch's exporter translates wrongly, in those that it has.

The table is given to ``ExportedProgram.run_decompositions``. A function returns
``NotImplemented`` for what it does not cover, and the operator stays as it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from . import elementwise, ordering, small_matrices

_aten: Any = torch.ops.aten  # operators are made on demand: no types

_EXPORTED_RANK: Final = 4


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


def _lstm(input: Tensor, hx: Sequence[Tensor], *options: Any) -> Any:
    """A loop over time, where what leaves a step is projected: ONNX's LSTM has no projections."""
    if not _projects(hx):
        return _KEEP
    from .recurrent import LAYERS  # loads dynamo

    return LAYERS[_aten.lstm.input](input, hx, *options)


def _projects(states: Sequence[Tensor]) -> bool:
    output, cell = states
    return output.shape[-1] != cell.shape[-1]


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


def _adaptive_avg_pool2d(x: Tensor, size: Sequence[int]) -> Any:
    """Means over windows of a free size: torch's own asks how they divide it."""
    if not _pools_free_size(x, size):
        return _KEEP
    return _window_mean(_window_mean(x, size[1]).mT, size[0]).mT


def _adaptive_avg_pool1d(x: Tensor, size: Sequence[int]) -> Any:
    return _window_mean(x, size[0]) if _pools_free_size(x, size) else _KEEP


def _pools_free_size(x: Tensor, size: Sequence[int]) -> bool:
    is_fixed = all(isinstance(length, int) for length in x.shape[-len(size) :])
    return not is_fixed and any(count != 1 for count in size)


def _window_mean(x: Tensor, count: int) -> Tensor:
    """Along the last axis; what is outside of a window may be NaN."""
    place, index = torch.arange(x.shape[-1]), torch.arange(count).unsqueeze(-1)
    start, end = index * x.shape[-1] // count, -((-(index + 1) * x.shape[-1]) // count)
    inside = (place >= start) & (place < end)  # (count, size)
    return torch.where(inside, x.unsqueeze(-2), 0).sum(-1) / (end - start).squeeze(-1)


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


_own_linspace: Final = torch.linspace


def linspace(start: Any, end: Any, steps: Any, **options: Any) -> Tensor:  # as torch.linspace
    """With a size for its number of steps, which torch's own takes for a constant.

    From both ends to the middle, as torch's own counts; a 16-bit type knows no count beyond its
    mantissa.
    """
    dtype = options.get("dtype") or torch.get_default_dtype()
    known = options.keys() <= {"dtype", "device"} and dtype.is_floating_point
    if not (known and type(steps) is torch.SymInt):
        own: Any = _own_linspace  # its types know no sizes
        return own(start, end, steps, **options)  # type: ignore[no-any-return]
    count: Any = steps
    wide = dtype if dtype.itemsize > 2 else torch.float32
    index = torch.arange(count, dtype=wide, device=options.get("device"))
    last = index[-1:]  # (1,): one less than the steps
    start, end = (torch.as_tensor(x, dtype=wide, device=index.device) for x in (start, end))
    step = (end - start) / last.clamp(min=1)
    is_first_half = (index < ((last + 1) / 2).floor()) | (last == 0)
    return torch.where(is_first_half, start + step * index, end - step * (last - index)).to(dtype)


_own_interpolate: Final = torch.nn.functional.interpolate


def interpolate(  # as torch.nn.functional.interpolate
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """With whole factors as sizes: torch's own goes through floats, which equal no other size."""
    if size is None and scale_factor is not None:
        sides = input.shape[2:]
        several = isinstance(scale_factor, list | tuple)
        factors = scale_factor if several else [scale_factor] * len(sides)
        if all(float(factor).is_integer() for factor in factors):
            size = [side * int(factor) for side, factor in zip(sides, factors, strict=True)]
            scale_factor = recompute_scale_factor = None
    own: Any = _own_interpolate
    return own(  # type: ignore[no-any-return]
        input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    )


def _transposed(name: str, kind: type[Any]) -> Callable[..., Tensor]:
    """A transposed convolution that may be asked for a free size.

    It is made as large as it can be, and gathered, as nobody knows that what is asked for is less.
    """
    own, convolve = kind.forward, getattr(torch.nn.functional, name)

    def forward(layer: Any, input: Tensor, output_size: Any = None) -> Tensor:
        if not _is_free(output_size):
            return own(layer, input, output_size)  # type: ignore[no-any-return]
        most = [step - 1 for step in layer.stride]
        options = layer.stride, layer.padding, most, layer.groups, layer.dilation
        found: Tensor = convolve(input, layer.weight, layer.bias, *options)
        for axis in range(-len(most), 0):
            length = output_size[axis]
            found = found.index_select(axis, torch.arange(length, device=found.device))
        return found

    return forward


def _is_free(size: Any) -> bool:
    return size is not None and any(type(length) is torch.SymInt for length in size)


_own_affine_grid: Final = torch.nn.functional.affine_grid


def affine_grid(
    theta: Tensor, size: Any, align_corners: bool | None = None
) -> Tensor:  # as torch.nn.functional.affine_grid
    """With free sizes, which torch's own takes for constants."""
    if not _is_free(size[2:]):
        return _own_affine_grid(theta, size, align_corners)
    places: list[Tensor] = []
    for length in size[2:]:
        index = torch.arange(length, dtype=theta.dtype, device=theta.device)
        last = index[-1:]  # (1,): one less than the length
        places.append((2 * index - last) / (last.clamp(min=1) if align_corners else last + 1))
    mesh = torch.meshgrid(*places, indexing="ij")
    base = torch.stack([*reversed(mesh), torch.ones_like(mesh[0])], -1)  # x, y, (z,) 1
    grid = base.flatten(0, -2) @ theta.mT
    return grid.reshape(size[0], *size[2:], len(places))


def _cdist_forward(x: Tensor, y: Tensor, p: float, compute_mode: int | None) -> Tensor:
    return cdist(x, y, p)


_functional: Final = torch.nn.functional

WHILE_CAPTURED: Final[Sequence[tuple[Any, str, Callable[..., Any]]]] = (
    (torch, "cdist", cdist),
    (torch, "linspace", linspace),
    (_functional, "interpolate", interpolate),
    (_functional, "affine_grid", affine_grid),
    *(
        (kind, "forward", _transposed(f"conv_transpose{rank}d", kind))
        for rank, kind in enumerate((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), 1)
    ),
)
"""Owner, name and what stands there while torch.export runs: its own fix free sizes."""

_KEEP: Final = NotImplemented

_ATTENTION: Final = _aten.scaled_dot_product_attention.default
_AVERAGES: Final = {
    _aten.adaptive_avg_pool1d.default: _adaptive_avg_pool1d,
    _aten.adaptive_avg_pool2d.default: _adaptive_avg_pool2d,
}
_LSTM: Final = _aten.lstm.input

TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.median.default: ordering.median,
    _aten.median.dim: ordering.median_along,
    _aten.kthvalue.default: ordering.kthvalue,
    _aten.cumprod.default: ordering.cumprod,
    _aten.cummax.default: ordering.cummax,
    _aten.cummin.default: ordering.cummin,
    _aten.logcumsumexp.default: ordering.logcumsumexp,
    _aten.logaddexp.default: elementwise.logaddexp,
    _aten.hypot.default: elementwise.hypot,
    _aten.log1p.default: elementwise.log1p,
    _aten.expm1.default: elementwise.expm1,
    _aten.searchsorted.Tensor: ordering.searchsorted,
    _aten.searchsorted.Scalar: ordering.searchsorted_scalar,
    _aten.bucketize.Tensor: ordering.bucketize,
    _aten.div.Tensor_mode: elementwise.divide,
    _aten.div.Scalar_mode: elementwise.divide,
    _aten.fmod.Tensor: elementwise.fmod,
    _aten.fmax.default: elementwise.fmax,
    _aten.fmin.default: elementwise.fmin,
    _aten.fmod.Scalar: elementwise.fmod,
    _aten.scatter_reduce.two: _scatter_reduce,
    _aten.as_strided.default: _as_strided,
    _aten.lgamma.default: elementwise.lgamma,
    _aten.rrelu.default: elementwise.rrelu,
    _aten.rrelu_with_noise_functional.default: elementwise.rrelu_with_noise,
    _aten.adaptive_max_pool1d.default: _adaptive_max_pool1d,
    _aten.adaptive_max_pool2d.default: _adaptive_max_pool2d,
    _aten._cdist_forward.default: _cdist_forward,
    _ATTENTION: _attention,
    _LSTM: _lstm,
    _aten.log_sigmoid.default: elementwise.log_sigmoid,
    _aten.linalg_cholesky.default: small_matrices.cholesky,
    _aten.linalg_det.default: small_matrices.determinant,
    _aten.det.default: small_matrices.determinant,
    _aten.linalg_inv.default: small_matrices.inverse,
    _aten.inverse.default: small_matrices.inverse,
    _aten.linalg_solve.default: small_matrices.solve,
}


ONNX_TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    **TABLE,
    **_AVERAGES,
    _aten.sort.stable: ordering.sort_stably,
    _aten.argsort.stable: ordering.argsort_stably,
    _aten.linalg_solve_triangular.default: small_matrices.solve_triangular,
    _aten.cholesky_solve.default: small_matrices.cholesky_solve,
    _aten.linalg_slogdet.default: small_matrices.log_determinant,
    _aten.slogdet.default: small_matrices.log_determinant,
}
"""With what is right, or needed, in ONNX alone: torch's own plain sort is not stable."""


def applies(node: torch.fx.Node) -> bool:
    """Whether ONNX needs a node's operator to be decomposed, with inputs such as its own."""
    if node.target is _ATTENTION:
        query: Any = node.args[0]
        rank: int = query.meta["val"].dim()
        return rank != _EXPORTED_RANK
    if node.target in _AVERAGES:
        pooled: Any = node.args[0]
        size: Any = node.args[1]
        return _pools_free_size(pooled.meta["val"], size)
    if node.target is _LSTM:
        states: Any = node.args[1]
        return _projects([state.meta["val"] for state in states])
    return node.target in ONNX_TABLE
