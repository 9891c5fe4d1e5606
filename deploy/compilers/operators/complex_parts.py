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

from .elementwise import atan2, copysign, hypot, whole_power
from .fx_nodes import made, nodes_of, value_of

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


def _where(condition: Tensor, chosen: Any, other: Any) -> Any:
    if not (_is_complex(chosen) or _is_complex(other)):
        return NotImplemented
    dtype = torch.result_type(chosen, other).to_real()
    (a, b), (c, d) = _parts(chosen), _parts(other)
    real, imaginary = torch.where(condition, a, c), torch.where(condition, b, d)
    return torch.complex(real.to(dtype), imaginary.to(dtype))


def _parts(value: Any) -> tuple[Any, Any]:
    """Of a tensor or a number, which may be real."""
    if isinstance(value, Tensor):
        return _real(value), _imaginary(value) if _is_complex(value) else 0.0
    return complex(value).real, complex(value).imag


def _of_real(operator: Any) -> Callable[..., Any]:
    """An operator of a real tensor and a complex number, ``1j * x``."""

    def made_complex(x: Any, number: Any, **options: Any) -> Any:
        if not isinstance(number, complex) or _is_complex(x):
            return NotImplemented
        x = x.to(torch.result_type(x, number).to_real())
        return operator(torch.complex(x, torch.zeros_like(x)), number, **options)

    return made_complex


def _equal(z: Tensor, other: Any) -> Any:
    if not (_is_complex(z) or _is_complex(other)):
        return NotImplemented
    (a, b), (c, d) = _parts(z), _parts(other)
    return torch.eq(a, c) & (torch.eq(b, d) if isinstance(b, Tensor) else torch.eq(d, b))


def _unequal(z: Tensor, other: Any) -> Any:
    found = _equal(z, other)
    return found if found is NotImplemented else ~found


def _isnan(z: Tensor) -> Any:
    return _real(z).isnan() | _imaginary(z).isnan() if _is_complex(z) else NotImplemented


def _square_root(z: Tensor) -> Any:
    """By the part that does not cancel; its sign is that of the imaginary part."""
    if not _is_complex(z):
        return NotImplemented
    real, imaginary = _real(z), _imaginary(z)
    long = ((hypot(real, imaginary) + real.abs()) / 2).sqrt()
    short = torch.where(long == 0, 0, imaginary.abs() / (2 * torch.where(long == 0, 1, long)))
    is_right = real >= 0
    height = torch.where(is_right, short, long)
    return torch.complex(torch.where(is_right, long, short), copysign(height, imaginary))


def _square(z: Tensor) -> Any:
    return z * z if _is_complex(z) else NotImplemented


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


def _tanh(z: Tensor) -> Any:
    """By what neither overflows nor cancels: exp(-2 |a|), and 1 less it as a tanh."""
    if not _is_complex(z):
        return NotImplemented
    real, imaginary = _real(z), _imaginary(z)
    small = (-2 * real.abs()).exp()
    below = (real.abs().tanh() * (1 + small)).square() + 4 * small * imaginary.cos().square()
    across = (2 * real).tanh() * (1 + small.square())
    return torch.complex(across / below, 2 * small * (2 * imaginary).sin() / below)


def _angle(z: Tensor) -> Any:
    return atan2(_imaginary(z), _real(z)) if _is_complex(z) else NotImplemented


def _power(z: Tensor, exponent: complex) -> Any:
    """Small whole powers, as products; others by the angle, as torch takes all of them."""
    if not _is_complex(z) or isinstance(exponent, complex) or exponent <= 0:
        return NotImplemented
    if exponent == 0.5:
        return _square_root(z)
    if exponent not in range(1, _LARGEST_POWER + 1):
        return torch.polar(hypot(_real(z), _imaginary(z)) ** exponent, _angle(z) * exponent)
    return whole_power(z, int(exponent))


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


_LARGEST_POWER: Final = 16

_TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.einsum.default: _einsum,
    _aten.zeros.default: _zeros,
    _aten.zeros_like.default: _like(torch.zeros_like),
    _aten.ones_like.default: _like(torch.ones_like),
    _aten.where.self: _where,
    _aten.where.ScalarSelf: _where,
    _aten.where.ScalarOther: _where,
    **{
        operator: _of_real(operator)
        for operator in (_aten.mul.Tensor, _aten.add.Tensor, _aten.div.Tensor)
    },
    _aten.sub.Tensor: _of_real(lambda z, number, *, alpha=1: z + -alpha * number),
    _aten.rsub.Scalar: _of_real(lambda x, number, alpha=1: number + -alpha * x),
    _aten.eq.Tensor: _equal,
    _aten.eq.Scalar: _equal,
    _aten.ne.Tensor: _unequal,
    _aten.ne.Scalar: _unequal,
    _aten.isnan.default: _isnan,
    _aten.sqrt.default: _square_root,
    _aten.square.default: _square,
    _aten.masked_fill.Scalar: _masked_fill,
    _aten.pad.default: _padded,
    _aten.exp.default: _exp,
    _aten.log.default: _log,
    _aten.tanh.default: _tanh,
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
            _aten.tril.default,
            _aten.triu.default,
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


def measure(program: torch.export.ExportedProgram) -> None:
    """Ask, in place, for a size of the parts where it is one of a complex tensor.

    torch's exporter has no ``sym_size`` of one (2.13), which stands where a size has a step.
    """
    for node in nodes_of(program.graph_module):
        if node.target is _aten.sym_size.int and _is_complex(value_of(node.args[0])):
            z, axis = node.args
            with node.graph.inserting_before(node):
                parts = made(_aten.view_as_real.default, z)
            node.args = parts, axis % value_of(z).dim()


_NEEDED: Final = {
    *(*_TABLE, _aten.copy_.default, _aten.index_put_.default),
    _aten.chunk.default,
}
"""Before writes become new tensors, and what consists of others is taken apart."""
