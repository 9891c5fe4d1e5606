"""Common divisors, by Euclid's algorithm in a loop."""

from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops import while_loop

_while_loop: Any = while_loop  # it has no types
_broadcast: Any = torch.broadcast_tensors  # nor has this


def greatest(x: Tensor, y: Tensor) -> Any:
    """As ``aten.gcd``: all values go on until the last one has no rest."""
    kind = torch.promote_types(x.dtype, y.dtype)
    wide = tuple(each.long().abs() for each in _broadcast(x, y))
    with torch.compiler.set_stance("default"):  # under "force_eager" a loop is not captured
        found, _ = _while_loop(_has_rest, _step, wide)
    return found.to(kind)


def _has_rest(x: Tensor, y: Tensor) -> Tensor:
    return (y != 0).any()


def _step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    rest = x % torch.where(y == 0, 1, y)
    return torch.where(y == 0, x, y), torch.where(y == 0, y, rest)


def least_multiple(x: Tensor, y: Tensor) -> Any:
    """As ``aten.lcm``."""
    divisor = greatest(x.long(), y.long())
    found = torch.where(divisor == 0, 0, (x // divisor.clamp(min=1) * y).abs())
    return found.to(torch.promote_types(x.dtype, y.dtype))
