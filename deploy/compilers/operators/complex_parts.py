"""Operators that torch's ONNX exporter lacks for complex tensors, by real and imaginary parts.

It has sums, products, slices and transforms of them (2.13), but no ``einsum`` and no exponential,
nothing that takes a part by its index, as rotary positions are, and nothing that writes into one:
what a Fourier neural operator does.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional
from torch.utils import _pytree as pytree

from .elementwise import atan2, hypot

_aten: Any = torch.ops.aten  # operators are made on demand: no types


def _of_parts(operator: Any) -> Callable[..., Any]:
    """An operator that takes the parts of what it is given to the parts of what it returns."""

    def parts(*args: Any, **options: Any) -> Any:
        if options.get("dtype") or not any(map(_is_complex, pytree.tree_leaves(args))):
            return NotImplemented
        real, imaginary = (
            operator(*pytree.tree_map(part, args), **options) for part in (_real, _imaginary)
        )
        return pytree.tree_map(torch.complex, real, imaginary)

    return parts


def _bmm(left: Tensor, right: Tensor) -> Any:
    return _multiplied(torch.bmm, left, right) if _is_complex(left) else NotImplemented


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    if not _is_complex(x):
        return NotImplemented
    product = _multiplied(functional.linear, x, weight)
    return product if bias is None else product + bias


def _multiplied(operator: Callable[..., Tensor], left: Tensor, right: Tensor) -> Tensor:
    (a, b), (c, d) = ((_real(each), _imaginary(each)) for each in (left, right))
    return torch.complex(operator(a, c) - operator(b, d), operator(a, d) + operator(b, c))


def _einsum(equation: str, operands: list[Tensor], *, path: list[int] | None = None) -> Any:
    if not any(map(_is_complex, operands)) or len(operands) != 2:
        return NotImplemented
    return _multiplied(partial(torch.einsum, equation), *operands)


def _zeros(size: list[int], *, dtype: torch.dtype | None = None, **options: Any) -> Any:
    if dtype is None or not dtype.is_complex:
        return NotImplemented
    zeros = torch.zeros(size, dtype=dtype.to_real(), **options)
    return torch.complex(zeros, zeros)


def _like(filled: Callable[..., Tensor]) -> Callable[..., Any]:
    """``zeros_like`` or ``ones_like``, which may ask for real ones."""

    def like(z: Tensor, *, dtype: torch.dtype | None = None, **options: Any) -> Any:
        if not _is_complex(z) or (dtype is not None and dtype.is_complex):
            return NotImplemented
        real = filled(_real(z), dtype=dtype)
        return real if dtype else torch.complex(real, torch.zeros_like(real))

    return like


def _where(condition: Tensor, chosen: Tensor, other: Tensor) -> Any:
    if not (_is_complex(chosen) or _is_complex(other)):
        return NotImplemented
    real = torch.where(condition, _real(chosen), _real(other))
    first, second = (
        _imaginary(each) if _is_complex(each) else torch.zeros_like(each, dtype=real.dtype)
        for each in (chosen, other)
    )
    return torch.complex(real, torch.where(condition, first, second))


def _masked_fill(z: Tensor, mask: Tensor, value: complex) -> Any:
    if not _is_complex(z):
        return NotImplemented
    number = complex(value)
    return torch.complex(
        _real(z).masked_fill(mask, number.real), _imaginary(z).masked_fill(mask, number.imag)
    )


def _padded(z: Tensor, pad: list[Any], mode: str = "constant", value: complex | None = None) -> Any:
    if not _is_complex(z) or mode != "constant":
        return NotImplemented
    number = complex(value or 0)
    return torch.complex(
        torch.constant_pad_nd(_real(z), pad, number.real),
        torch.constant_pad_nd(_imaginary(z), pad, number.imag),
    )


def _exp(z: Tensor) -> Any:
    if not _is_complex(z):
        return NotImplemented
    return torch.polar(_real(z).exp(), _imaginary(z))


def _log(z: Tensor) -> Any:
    if not _is_complex(z):
        return NotImplemented
    return torch.complex(hypot(_real(z), _imaginary(z)).log(), _angle(z))


def _angle(z: Tensor) -> Any:
    return atan2(_imaginary(z), _real(z)) if _is_complex(z) else NotImplemented


def _power(z: Tensor, exponent: complex) -> Any:
    """Small whole powers, as products."""
    if not _is_complex(z) or exponent not in (2, 3):
        return NotImplemented
    return z * z if exponent == 2 else z * z * z


def _norm(z: Tensor, *args: Any, **options: Any) -> Any:
    if not _is_complex(z):
        return NotImplemented
    return torch.linalg.vector_norm(z.abs(), *args, **options)


def _is_complex(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_complex()


def _real(value: Any) -> Any:
    return torch.view_as_real(value)[..., 0] if _is_complex(value) else value


def _imaginary(value: Any) -> Any:
    if _is_complex(value):
        return torch.view_as_real(value)[..., 1]
    is_real = isinstance(value, Tensor) and value.is_floating_point()
    return torch.zeros_like(value) if is_real else value


_TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.einsum.default: _einsum,
    _aten.zeros.default: _zeros,
    _aten.zeros_like.default: _like(torch.zeros_like),
    _aten.ones_like.default: _like(torch.ones_like),
    _aten.where.self: _where,
    _aten.masked_fill.Scalar: _masked_fill,
    _aten.pad.default: _padded,
    _aten.exp.default: _exp,
    _aten.log.default: _log,
    _aten.angle.default: _angle,
    _aten.pow.Tensor_Scalar: _power,
    _aten.linalg_vector_norm.default: _norm,
    _aten.bmm.default: _bmm,
    _aten.linear.default: _linear,
    **{
        operator: _of_parts(operator)
        for operator in (
            _aten.copy.default,
            _aten.select.int,
            _aten.slice_scatter.default,
            _aten.select_scatter.default,
            _aten.expand.default,
            _aten.unsqueeze.default,
            _aten.index_select.default,
            _aten.index.Tensor,
            _aten.index_put.default,
            _aten.gather.default,
            _aten.repeat.default,
            _aten.cumsum.default,
            _aten.unbind.int,
            _aten.split.Tensor,
            _aten.split_with_sizes.default,
        )
    },
}


def table(nodes: Iterable[Node]) -> Mapping[Any, Callable[..., Any]]:
    """By operator; empty where none of them is complex, as a table changes what is left alone."""
    return _TABLE if any(node.target in _NEEDED and _concerns(node) for node in nodes) else {}


def _concerns(node: Node) -> bool:
    values = [each.meta.get("val") for each in (node, *node.all_input_nodes)]
    return any(map(_is_complex, pytree.tree_leaves(values)))


_NEEDED: Final = {
    *(*_TABLE, _aten.copy_.default, _aten.index_put_.default),
    _aten.chunk.default,
}
"""Before writes become new tensors, and what consists of others is taken apart."""
