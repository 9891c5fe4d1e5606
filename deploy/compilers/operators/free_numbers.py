"""Operators with a number that is a free size, ``x.roll(time // 2)``, in ONNX.

torch's exporter (2.13) writes such numbers into the graph, where a size has none.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from .symbols import is_free

_aten: Any = torch.ops.aten  # operators are made on demand: no types
_scalar_tensor: Any = torch.scalar_tensor  # its types know no free sizes


def _scatter(x: Tensor, dim: int, index: Tensor, value: Any) -> Any:
    if not is_free(value):
        return NotImplemented
    return x.scatter(dim, index, _scalar_tensor(value, dtype=x.dtype).expand(index.shape))


def _roll(x: Tensor, shifts: Sequence[Any], dims: Sequence[int] = ()) -> Any:
    if not any(map(is_free, shifts)):
        return NotImplemented
    if not dims:
        return _rolled(x.flatten(), 0, shifts[0]).reshape(x.shape)
    for dim, shift in zip(dims, shifts, strict=True):
        x = _rolled(x, dim, shift)
    return x


def _rolled(x: Tensor, dim: int, shift: Any) -> Tensor:
    length = x.shape[dim]
    kept = length - shift % length
    return torch.cat([x.narrow(dim, kept, length - kept), x.narrow(dim, 0, kept)], dim)


def beside(x: Tensor, number: Any) -> Tensor:
    """A number as a tensor, in the dtype that both have."""
    like = 1 if isinstance(number, int | torch.SymInt) else 1.0
    found: Tensor = _scalar_tensor(number, dtype=torch.result_type(x, like))
    return found


TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.scatter.value: _scatter,
    _aten.roll.default: _roll,
}


def applies(node: torch.fx.Node) -> bool:
    """Whether a number of a node with one of these operators is a free size."""
    return any(is_free(each.meta.get("val")) for each in node.all_input_nodes)
