"""Operators that torch's ONNX exporter lacks for complex tensors, by real and imaginary parts.

It has sums, products, slices and transforms of them (2.13), but no ``einsum``, and nothing that
writes into a part of one: what a Fourier neural operator does.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

_aten: Any = torch.ops.aten  # operators are made on demand: no types


def _of_parts(operator: Any) -> Callable[..., Any]:
    """An operator that takes the parts of what it is given to the parts of what it returns."""

    def parts(*args: Any, **options: Any) -> Any:
        if not any(_is_complex(each) for each in pytree.tree_leaves(args)):
            return NotImplemented
        real, imaginary = (
            operator(*pytree.tree_map(part, args), **options) for part in (_real, _imaginary)
        )
        return torch.complex(real, imaginary)

    return parts


def _einsum(equation: str, operands: list[Tensor], *, path: list[int] | None = None) -> Any:
    if not any(map(_is_complex, operands)) or len(operands) != 2:
        return NotImplemented
    (a, b), (c, d) = ((_real(each), _imaginary(each)) for each in operands)

    def product(left: Tensor, right: Tensor) -> Tensor:
        return torch.einsum(equation, left, right)

    return torch.complex(product(a, c) - product(b, d), product(a, d) + product(b, c))


def _zeros(size: list[int], *, dtype: torch.dtype | None = None, **options: Any) -> Any:
    if dtype is None or not dtype.is_complex:
        return NotImplemented
    zeros = torch.zeros(size, dtype=dtype.to_real(), **options)
    return torch.complex(zeros, zeros)


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
        )
    },
}


def table(nodes: Iterable[Node]) -> Mapping[Any, Callable[..., Any]]:
    """By operator; empty where none of them is complex, as a table changes what is left alone."""
    needed = any(node.target in _WRITES and _is_complex(node.meta.get("val")) for node in nodes)
    return _TABLE if needed else {}


_WRITES: Final = {*_TABLE, _aten.copy_.default}
"""Before writes become new tensors."""
