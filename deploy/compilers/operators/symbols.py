"""Free sizes, and what is made of them: while a program is captured, torch has symbols for them."""

from typing import Any, Final

import torch
from torch import Tensor

SYMBOLS: Final = (torch.SymInt, torch.SymFloat, torch.SymBool)
"""What sizes, numbers and conditions are then, in place of Python's."""


def is_free(number: Any) -> bool:
    """Whether a number is a free size, or made of one."""
    return isinstance(number, torch.SymInt | torch.SymFloat)


def truth(condition: Any) -> Tensor:
    """A condition on sizes or numbers, as one on values is: a bool without axes."""
    held: Tensor = _full((), _choose(condition, 1, 0)) == 1
    return held


_full: Any = torch.full
_choose: Any = torch.sym_ite  # it has no types, and the other knows no symbols


def always(condition: Any) -> bool:
    """Whether a condition on sizes is known to hold for all of them; nothing is fixed by asking."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # loads sympy

    return statically_known_true(condition)
