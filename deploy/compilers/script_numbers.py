"""Numbers that a script makes of values: ``x.max().item() / 2`` is computed as tensors are.

Torch keeps an expression of them, which a ``.pt2`` may not hold, and has none of ``math.exp``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

_FUNCTIONS: Final[Mapping[str, Callable[..., Tensor]]] = {
    "Bool": lambda x: x != 0,
    "Int": torch.trunc,
    "degrees": torch.rad2deg,
    "fabs": torch.abs,
    "floordiv": torch.floor_divide,
    "gamma": lambda x: torch.lgamma(x).exp(),
    "log": lambda x, base=None: torch.log(x) if base is None else torch.log(x) / torch.log(base),
    "max": torch.maximum,
    "min": torch.minimum,
    "radians": torch.deg2rad,
}
"""Those that have another name as tensors are concerned."""


_choose: Any = torch.sym_ite  # it has no types


def truth(known: Any) -> Tensor:
    """A tensor of what is asked of sizes, or known."""
    if isinstance(known, torch.SymBool):  # of ``n > 4 and n % 2 == 0``, whose other side is a bool
        return torch.full((), _choose(known, 1, 0)) == 1
    return known.clone() if isinstance(known, Tensor) else torch.full((), known)


def of_values(node: Any, args: Sequence[Any]) -> Any:
    """What a node computes of numbers; ``NotImplemented`` if no float is made of values there."""
    name = node.kind().partition("::")[2]
    function = _FUNCTIONS.get(name) or getattr(torch, name, None)
    if function is None or not _has_floats_of_values(node, args):
        return NotImplemented
    found: Tensor = function(*map(_held, args))
    type_ = node.output().type().kind()
    if type_ == "BoolType":
        return found
    return found.long().item() if type_ == "IntType" else found.item()


def _has_floats_of_values(node: Any, args: Sequence[Any]) -> bool:
    if not all(isinstance(arg, int | float | torch.SymInt | torch.SymFloat) for arg in args):
        return False
    symbols = [arg for arg in args if isinstance(arg, torch.SymInt | torch.SymFloat)]
    if not any(free_unbacked_symbols(symbol.node.expr) for symbol in symbols):
        return False
    is_float = node.output().type().kind() == "FloatType"
    return is_float or any(isinstance(arg, torch.SymFloat) for arg in args)


def _held(number: Any) -> Tensor:
    return torch.full((), number, dtype=torch.float64)
