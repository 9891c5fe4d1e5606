"""Operators that ONNX lacks, or that torch's exporter translates wrongly, in those that it has.

The table is given to ``ExportedProgram.run_decompositions``. A function returns
``NotImplemented`` for what it does not cover, and the operator stays as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node

from . import (
    adaptive_pools,
    attention,
    bags,
    composites,
    counting,
    distances,
    doubles,
    elementwise,
    empty,
    exact_resizing,
    experts,
    free_numbers,
    free_parts,
    losses,
    nearest_pixels,
    ordering,
    scattering,
    small_matrices,
    smoothed_resizing,
    special,
)
from .fx_nodes import value_of
from .symbols import is_free

_aten: Any = torch.ops.aten  # operators are made on demand: no types

_UNBATCHED: Final = 3
"""Axes of an image alone."""


def _of_all(select: Any) -> Callable[..., Any]:
    """``x.amax()``, of all axes: the exporter asks for their numbers."""

    def selected(x: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> Any:
        return NotImplemented if dim or not x.dim() else select(x, [*range(x.dim())], keepdim)

    return selected


def _aminmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is not None or not x.dim():
        return NotImplemented
    axes = [*range(x.dim())]
    return _aten.amin.default(x, axes, keepdim), _aten.amax.default(x, axes, keepdim)


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


def _column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Of several dtypes too, of which the exporter makes one sequence."""
    return torch.cat([each if each.dim() > 1 else each.reshape(-1, 1) for each in tensors], 1)


def _diagonal_scatter(
    x: Tensor, source: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """What ``x.diagonal().add_(y)`` is: torch's own decomposition writes into a view."""
    moved = x.movedim((dim1, dim2), (-2, -1))  # (..., R, C)
    row, column = torch.arange(moved.shape[-2]).unsqueeze(-1), torch.arange(moved.shape[-1])
    length = source.shape[-1]
    padded = torch.nn.functional.pad(source, (0, 1))  # there may be no diagonal so far out
    place = (row.squeeze(-1) - max(-offset, 0)).clamp(0, length)
    found = torch.where(column - row == offset, padded[..., place].unsqueeze(-1), moved)
    return found.movedim((-2, -1), (dim1, dim2))


def _lstm(input: Tensor, hx: Sequence[Tensor], *options: Any) -> Any:
    """A loop over time, where what leaves a step is projected: ONNX's LSTM has no projections."""
    if not _projects(hx):
        return NotImplemented
    from .recurrent import LAYERS  # loads dynamo

    return LAYERS[_aten.lstm.input](input, hx, *options)


def _gcd(x: Tensor, y: Tensor) -> Any:
    from .divisors import greatest  # loads dynamo

    return greatest(x, y)


def _lcm(x: Tensor, y: Tensor) -> Any:
    from .divisors import least_multiple  # loads dynamo

    return least_multiple(x, y)


def _projects(states: Sequence[Tensor]) -> bool:
    output, cell = states
    return output.shape[-1] != cell.shape[-1]


def _unfold(x: Tensor, *sizes: Any) -> Any:
    """Of one image without a batch: the exporter pads four axes."""
    return (
        NotImplemented if x.dim() != _UNBATCHED else _aten.im2col(x.unsqueeze(0), *sizes).squeeze(0)
    )


def _squeeze(x: Tensor, dim: int) -> Any:
    """What has more than one element stays: the exporter asks for one."""
    return NotImplemented if _is_one(x, dim) else _aten.alias(x)


def _is_one(x: Tensor, dim: int) -> bool:
    return x.dim() == 0 or (type(x.shape[dim]) is int and x.shape[dim] == 1)


def _convolution(*args: Any) -> Any:
    """As a trace writes it: flags of its kernel follow."""
    return _aten.convolution(*args[:9])


_ATTENTION: Final = _aten.scaled_dot_product_attention.default
_LSTM: Final = _aten.lstm.input
_QUOTIENTS: Final = (
    _aten.floor_divide.default,
    _aten.floor_divide.Scalar,
    _aten.remainder.Tensor,
    _aten.remainder.Scalar,
)
_POWER: Final = _aten.pow.Tensor_Scalar
_SQUEEZE: Final = _aten.squeeze.dim
_DIAGONAL: Final = _aten.diagonal.default  # a write into it is a diagonal_scatter later

TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.amax.default: _of_all(_aten.amax.default),
    _aten.amin.default: _of_all(_aten.amin.default),
    _aten.aminmax.default: _aminmax,
    _aten.median.default: ordering.median,
    _aten.median.dim: ordering.median_along,
    _aten.kthvalue.default: ordering.kthvalue,
    _aten.cumprod.default: ordering.cumprod,
    _aten.cummax.default: ordering.cummax,
    _aten.cummin.default: ordering.cummin,
    _aten.logcumsumexp.default: ordering.logcumsumexp,
    _aten.logaddexp.default: elementwise.logaddexp,
    _aten.logaddexp2.default: elementwise.logaddexp2,
    _aten.hypot.default: elementwise.hypot,
    _aten.log1p.default: elementwise.log1p,
    _aten.expm1.default: elementwise.expm1,
    _aten.searchsorted.Tensor: ordering.searchsorted,
    _aten.searchsorted.Scalar: ordering.searchsorted_scalar,
    _aten.bucketize.Tensor: ordering.bucketize,
    _aten.fmod.Tensor: elementwise.fmod,
    _aten.fmax.default: elementwise.fmax,
    _aten.fmin.default: elementwise.fmin,
    _aten.fmod.Scalar: elementwise.fmod,
    _aten.scatter_reduce.two: scattering.reduced,
    _aten.as_strided.default: _as_strided,
    _aten.column_stack.default: _column_stack,
    _aten.lgamma.default: elementwise.lgamma,
    _aten.rrelu.default: elementwise.rrelu,
    _aten.rrelu_with_noise_functional.default: elementwise.rrelu_with_noise,
    **adaptive_pools.LARGEST,
    _aten._cdist_forward.default: distances.cdist_forward,
    _ATTENTION: attention.of_other_ranks,
    _LSTM: _lstm,
    _aten.log_sigmoid.default: elementwise.log_sigmoid,
    _aten.linalg_cholesky.default: small_matrices.cholesky,
    _aten.linalg_det.default: small_matrices.determinant,
    _aten.det.default: small_matrices.determinant,
    _aten.linalg_inv.default: small_matrices.inverse,
    _aten.inverse.default: small_matrices.inverse,
    _aten.linalg_solve.default: small_matrices.solve,
}
"""Before TorchScript is made, too: torch's own are wrong there, or fix sizes."""


ONNX_TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten._is_all_true.default: torch.all,
    _aten._is_any_true.default: torch.any,
    **TABLE,
    **adaptive_pools.TABLE,
    **free_parts.TABLE,
    **free_numbers.TABLE,
    **composites.TABLE,
    **doubles.TABLE,
    **empty.TABLE,
    **nearest_pixels.TABLE,
    **exact_resizing.OF_A_FACTOR,
    **smoothed_resizing.TABLE,
    _ATTENTION: attention.with_masks,
    _aten._convolution.default: _convolution,
    _aten.im2col.default: _unfold,
    _SQUEEZE: _squeeze,
    _aten.add.Tensor: elementwise.added,
    _aten.clamp.default: elementwise.bounded,
    _aten.clamp_min.default: elementwise.bounded,
    _aten.clamp_max.default: elementwise.bounded_above,
    _aten.rsub.Scalar: elementwise.subtracted,
    _aten.arange.default: elementwise.steps_to,
    _aten.arange.start: elementwise.steps,
    _aten.arange.start_step: elementwise.steps,
    _POWER: elementwise.power,
    _aten.pow.Tensor_Tensor: elementwise.power,
    _aten.pow.Scalar: elementwise.power,
    _aten.put.default: scattering.put,
    _aten.copy.default: scattering.copied,
    _aten.signbit.default: elementwise.signbit,
    _aten.copysign.Tensor: elementwise.copysign,
    _aten.copysign.Scalar: elementwise.copysign,
    _aten.atan2.default: elementwise.atan2,
    _aten.diagonal_scatter.default: _diagonal_scatter,
    _aten.div.Tensor_mode: elementwise.divide,
    _aten.div.Scalar_mode: elementwise.divide,
    _aten.floor_divide.default: elementwise.floor_divide,
    _aten.floor_divide.Scalar: elementwise.floor_divide,
    _aten.remainder.Tensor: elementwise.remainder,
    _aten.remainder.Scalar: elementwise.remainder,
    _aten.remainder.Scalar_Tensor: elementwise.remainder_of,
    _aten.cross_entropy_loss.default: losses.cross_entropy,
    _aten.nll_loss_nd.default: losses.nll_loss,
    experts.GROUPED: experts.grouped_product,
    _aten.binary_cross_entropy_with_logits.default: losses.binary_cross_entropy_with_logits,
    _aten.bincount.default: ordering.bincount,
    _aten.isin.Tensor_Tensor: counting.is_in,
    _aten.isin.Tensor_Scalar: counting.is_in,
    _aten.isin.Scalar_Tensor: counting.is_in,
    _aten.index_put.default: scattering.filled,
    **bags.TABLE,
    _aten.scatter.src: scattering.scattered,
    _aten.scatter_add.default: scattering.added,
    _aten.scatter.reduce: scattering.scattered_by,
    _aten.scatter.value_reduce: scattering.scattered_by,
    _aten.index_reduce.default: scattering.reduced_by_index,
    _aten.pdist.default: distances.pdist,
    _aten._pdist_forward.default: distances.pdist,
    _aten.gcd.default: _gcd,
    _aten.lcm.default: _lcm,
    _aten.einsum.default: counting.einsum,
    _aten.histc.default: counting.histogram,
    _aten.mode.default: counting.mode,
    _aten.nanmedian.default: ordering.nanmedian,
    _aten.nanmedian.dim: ordering.nanmedian_along,
    _aten.erfinv.default: special.erfinv,
    _aten.special_erfinv.default: special.erfinv,
    _aten.special_ndtri.default: special.ndtri,
    _aten.digamma.default: special.digamma,
    _aten.special_digamma.default: special.digamma,
    _aten.special_psi.default: special.digamma,
    _aten.i0.default: special.i0,
    _aten.special_i0.default: special.i0,
    _aten.special_i0e.default: special.i0e,
    _aten.special_i1.default: special.i1,
    _aten.special_i1e.default: special.i1e,
    _aten.special_erfcx.default: special.erfcx,
    _aten.special_log_ndtr.default: special.log_ndtr,
    _aten.polygamma.default: special.polygamma,
    _aten.special_polygamma.default: special.polygamma,
    _aten.mvlgamma.default: special.log_multigamma,
    _aten.special_multigammaln.default: special.log_multigamma,
    _aten.max.dim: ordering.largest_along,
    _aten.min.dim: ordering.smallest_along,
    _aten.sort.stable: ordering.sort_stably,
    _aten.argsort.stable: ordering.argsort_stably,
    _aten.linalg_solve_triangular.default: small_matrices.solve_triangular,
    _aten.cholesky_solve.default: small_matrices.cholesky_solve,
    _aten.linalg_slogdet.default: small_matrices.log_determinant,
    _aten.slogdet.default: small_matrices.log_determinant,
}
"""With what is right, or needed, in ONNX alone: torch's own plain sort is not stable, and it
writes ``x // y`` as that division, which would be its own decomposition.
"""


def applies(node: Node) -> bool:
    """Whether ONNX needs a node's operator to be decomposed, with inputs such as its own."""
    operator = _not_in_place(node.target)
    if operator in _SOMETIMES:
        return _SOMETIMES[operator](node)
    return operator in ONNX_TABLE or operator is _DIAGONAL


def _of_squeeze(node: Node) -> bool:
    x, axis = map(value_of, node.args)
    return not _is_one(x, axis)


def _of_lstm(node: Node) -> bool:
    states: Any = node.args[1]
    return _projects([*map(value_of, states)])


def _of_narrow(node: Node) -> bool:
    dtype: torch.dtype = node.meta["val"].dtype
    return dtype in elementwise.OF_NARROW[_not_in_place(node.target)]


def _of_power(node: Node) -> bool:
    return _of_narrow(node) or free_numbers.applies(node)


def _of_promoted(node: Node) -> bool:
    return bool(value_of(node.args[0]).dtype != node.meta["val"].dtype)


def _of_masks(node: Node) -> bool:
    return bool(value_of(node.args[0]).dtype == torch.bool)


def _of_quotient(node: Node) -> bool:
    """Of integers the exporter's is right: one pass less over the graph."""
    values = [*map(value_of, node.args)]
    is_plain = isinstance(values[0], Tensor) and not any(map(is_free, values))
    return not is_plain or node.meta["val"].is_floating_point()


_SOMETIMES: Final[Mapping[Any, Callable[[Node], bool]]] = {
    **dict.fromkeys(adaptive_pools.TABLE, adaptive_pools.applies),
    **dict.fromkeys(free_parts.TABLE, free_parts.applies),
    **dict.fromkeys(scattering.WHOLE, scattering.applies),
    _aten.index_put.default: scattering.fills,
    **dict.fromkeys(free_numbers.TABLE, free_numbers.applies),
    **dict.fromkeys(doubles.TABLE, doubles.applies),
    **dict.fromkeys(empty.TABLE, empty.applies),
    **dict.fromkeys(nearest_pixels.TABLE, nearest_pixels.applies),
    **dict.fromkeys(exact_resizing.OF_A_FACTOR, exact_resizing.applies),
    **dict.fromkeys(smoothed_resizing.TABLE, smoothed_resizing.applies),
    **dict.fromkeys(elementwise.OF_NARROW, _of_narrow),
    **dict.fromkeys(
        (_aten.arange.default, _aten.arange.start, _aten.arange.start_step),
        elementwise.has_fractions,
    ),
    **dict.fromkeys(
        (_aten.clamp.default, _aten.clamp_min.default, _aten.clamp_max.default),
        elementwise.has_one_bound,
    ),
    _aten.einsum.default: counting.adds_up,
    **dict.fromkeys((_aten.max.dim, _aten.min.dim), _of_masks),
    **dict.fromkeys(_QUOTIENTS, _of_quotient),
    _ATTENTION: attention.applies,
    _aten.rsub.Scalar: _of_promoted,
    _SQUEEZE: _of_squeeze,
    _LSTM: _of_lstm,
    _POWER: _of_power,
}
"""Operators that stay as they are, but for some nodes."""


def _not_in_place(operator: Any) -> Any:
    """The operator that one which writes into its input, ``x.atan2_(y)``, is decomposed to."""
    if not isinstance(operator, torch._ops.OpOverload) or not operator._schema.is_mutable:
        return operator
    packet = getattr(_aten, operator._schema.name.removeprefix("aten::").removesuffix("_"), None)
    default = getattr(packet, "default", operator)  # of floor_divide_.Tensor
    return getattr(packet, operator._overloadname, default)
