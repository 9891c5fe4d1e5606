"""What Python decides by numbers that are made of values, where torch's symbols have no say.

``flag is True`` is false of any symbol, so that one side was taken whatever the values are; and a
symbol is divided by 0 without an error, so that ``except ZeroDivisionError:`` was never reached.
"""

import contextlib
import dis
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from itertools import pairwise
from types import CodeType
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from edgeport.deploy.compilers.operators import quotients
from edgeport.deploy.compilers.operators.symbols import truth
from edgeport.runtimes.run_failures import ANOTHER_WAY

from . import texts

_assert: Any = torch.ops.aten._assert_async.msg  # operators are made on demand: no types


@contextlib.contextmanager
def known() -> Iterator[None]:
    """While it is entered, both are asked of the values, as ``if`` asks."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Tensor, "item", _asked(Tensor.item)))
        for kind in (torch.SymInt, torch.SymFloat):
            for name in _COMPARES:
                compared = _asked(getattr(kind, name))
                stack.enter_context(mock.patch.object(kind, name, compared))
            for name in _DIVIDES:
                divided = _dividing(getattr(kind, name), by_self=name.startswith("__r"))
                stack.enter_context(mock.patch.object(kind, name, divided))
        yield


@contextlib.contextmanager
def read() -> Iterator[None]:
    """While it is entered, bytecode that asks ``flag is True`` of a value is refused."""
    convert: Any = import_module("torch._dynamo.symbolic_convert")  # loads dynamo
    numbers: Any = import_module("torch._dynamo.variables.tensor")
    handlers = convert.compare_op_handlers

    def refusing(own: Any) -> Any:
        def compared(translator: Any, given: Any, options: Any) -> Any:
            are_numbers = [isinstance(each, numbers.SymNodeVariable) for each in given]
            truths = [each for each in given if each.is_python_constant()]
            if any(are_numbers) and any(
                isinstance(each.as_python_constant(), bool) for each in truths
            ):
                raise quotients.LostSizeError("'is' of a value")
            return own(translator, given, options)

        return compared

    mended = {name: refusing(handlers[name]) for name in ("is", "is not")}
    with mock.patch.dict(handlers, mended):
        yield


_COMPARES: Final = ("__eq__", "__ge__", "__gt__", "__le__", "__lt__", "__ne__")
_DIVIDES: Final = (
    *("__truediv__", "__floordiv__", "__mod__"),
    *("__rtruediv__", "__rfloordiv__", "__rmod__"),
)


def _asked(own: Any) -> Any:
    def answered(*given: Any) -> Any:
        found = own(*given)
        is_truth = isinstance(found, torch.SymBool)
        return bool(found) if is_truth and _is_identical(sys._getframe(1).f_code) else found

    return answered


@lru_cache(maxsize=1024)
def _is_identical(code: CodeType) -> bool:
    """Whether it asks ``flag is True``, or ``match`` does, which asks alike."""
    made = [*dis.get_instructions(code)]
    return any(
        asked.opname == "IS_OP" and isinstance(loaded.argval, bool)
        for loaded, asked in pairwise(made)
    )


def _dividing(own: Any, *, by_self: bool) -> Any:
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    def divided(x: Any, y: Any) -> Any:
        by = x if by_self else y
        caller = sys._getframe(1)
        is_forward = not (quotients.is_torch(caller) or texts.is_ours(caller))
        is_number = not (isinstance(x, Tensor) or isinstance(y, Tensor))
        if is_forward and is_number and free_unbacked_symbols(by):
            if not caller.f_code.co_exceptiontable:
                _assert(truth(by != 0), ANOTHER_WAY)
            elif by == 0:
                raise ZeroDivisionError("division by zero")
        return own(x, y)

    return divided
