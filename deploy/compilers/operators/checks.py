"""``torch._check(x.max().item() < 1e3)``: what forward checks of values is asserted of a tensor.

ONNX has no assertion of a number, and a trace keeps none: their files answered where eager raises.
What hangs on a tensor they refuse.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from edgeport.runtimes.run_failures import ANOTHER_WAY

from . import quotients
from .symbols import truth

_assert: Any = torch.ops.aten._assert_async.msg


@contextlib.contextmanager
def known() -> Iterator[None]:
    """While it is entered, torch.export keeps what forward checks of values."""
    with contextlib.ExitStack() as stack:
        for name in _CHECKS:
            asserting = _asserting(getattr(torch, name))
            stack.enter_context(mock.patch.object(torch, name, asserting))
        yield


_CHECKS: Final = ("_check", "_check_index", "_check_value", "_check_type", "_check_tensor_all")


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("edgeport.")


def _asserting(own: Any) -> Any:
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    def check(condition: Any, message: Any = None) -> None:
        caller = sys._getframe(1)
        if not (quotients.is_torch(caller) or _is_ours(caller)):
            if isinstance(condition, Tensor):
                _assert(condition.all(), ANOTHER_WAY)
            elif isinstance(condition, torch.SymBool) and free_unbacked_symbols(condition):
                _assert(truth(condition), ANOTHER_WAY)
        own(condition, message)

    return check
