"""``copy.deepcopy(x)`` of what forward computes, as of a state that it hands on, is ``x.clone()``.

torch asks a tensor for its address first (2.13), which it has not while a program is captured.
"""

from typing import Any, Final

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

_own_copy: Final[Any] = Tensor.__deepcopy__  # it has no types


def _copied(x: Tensor, memo: dict[int, Any]) -> Tensor:
    try:
        copied: Tensor = _own_copy(x, memo)
    except RuntimeError:
        if not isinstance(x, FakeTensor | FunctionalTensor):
            raise
        return x.detach().clone()
    return copied


WHILE_CAPTURED: Final = ((Tensor, "__deepcopy__", _copied),)
