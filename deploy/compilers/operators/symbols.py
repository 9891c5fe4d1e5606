"""Free sizes, and what is made of them: while a program is captured, torch has symbols for them."""

from typing import Any, Final

import torch

SYMBOLS: Final = (torch.SymInt, torch.SymFloat, torch.SymBool)
"""What sizes, numbers and conditions are then, in place of Python's."""


def is_free(number: Any) -> bool:
    """Whether a number is a free size, or made of one."""
    return isinstance(number, torch.SymInt | torch.SymFloat)


def always(condition: Any) -> bool:
    """Whether a condition on sizes is known to hold for all of them; nothing is fixed by asking."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # loads sympy

    return statically_known_true(condition)
