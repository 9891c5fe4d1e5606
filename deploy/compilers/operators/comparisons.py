"""``if torch.equal(new, old): break``: tensors that are compared as a whole.

torch has no symbol for the answer and gives up (2.13); of a tensor without axes it has.
"""

from typing import Any, Final

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException

_own_equal: Final = torch.equal
_own_allclose: Final = torch.allclose


def _equal(x: Tensor, other: Tensor) -> Any:
    try:
        return _own_equal(x, other)
    except DataDependentOutputException:
        return x.shape == other.shape and (x == other).all().item()


def _allclose(
    x: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Any:
    try:
        return _own_allclose(x, other, rtol, atol, equal_nan)
    except DataDependentOutputException:
        return torch.isclose(x, other, rtol, atol, equal_nan).all().item()


WHILE_CAPTURED: Final = tuple(
    (owner, name, function)
    for owner in (torch, Tensor)
    for name, function in (("equal", _equal), ("allclose", _allclose))
)
"""What is patched while a program is captured: owner, name, function."""
