"""``float(size)``, ``int(size)`` and ``len(x)`` in forward, which Python makes numbers of.

No method of a size helps: ``float`` gives a float. So these names are replaced in the modules where
forward calls them, and only while torch.export runs.
"""

import contextlib
from collections.abc import Callable, Iterator
from types import BuiltinFunctionType
from typing import Any, Final, TypeVar

import torch
from torch._subclasses.fake_tensor import FakeTensor

from . import number_functions
from .quotients import LostSizeError

T = TypeVar("T")

_sym_float: Final[Any] = torch.sym_float  # without types
_sym_int: Final[Any] = torch.sym_int
_full: Final[Any] = torch.full

_KEPT: Final = (torch.SymInt, torch.SymFloat, FakeTensor)
_MODULES: Final = 8
"""In which calls are looked for, one after the other."""


class _Plain(type):
    """Whoever asks whether a value is one, asks of what stands below."""

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, cls.__bases__)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, cls.__bases__)


class _Float(float, metaclass=_Plain):
    def __new__(cls, *given: Any) -> Any:
        is_kept = len(given) == 1 and isinstance(given[0], _KEPT)
        return _sym_float(_held(given[0])) if is_kept else float(*given)


class _Int(int, metaclass=_Plain):
    def __new__(cls, *given: Any, **options: Any) -> Any:
        is_kept = len(given) == 1 and isinstance(given[0], _KEPT)
        return _whole(given[0]) if is_kept else int(*given, **options)


def _held(number: Any) -> Any:
    return number.item() if isinstance(number, FakeTensor) else number


def _whole(number: Any) -> Any:
    """Of values, as tensors are rounded: torch keeps no condition on a float that becomes whole."""
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    if isinstance(number, torch.SymFloat) and free_unbacked_symbols(number.node.expr):
        number = _full((), number, dtype=torch.float64)
    return number.long().item() if isinstance(number, torch.Tensor) else _sym_int(number)


def _length(x: Any) -> Any:
    return x.shape[0] if isinstance(x, torch.Tensor) and x.dim() else len(x)


_NAMES: Final = {"float": _Float, "int": _Int, "len": _length}


def kept(error: LostSizeError, capture: Callable[[], T]) -> T:
    """Capture once more, with sizes that stay sizes in the module that an error tells.

    Args:
        error: Of the last time; others of the same kind may follow from other modules.
        capture: What raised it.

    Raises:
        LostSizeError: A size is lost in another way.
    """
    with contextlib.ExitStack() as replaced:
        for _ in range(_MODULES):
            if error.namespace is None or _NAMES.keys() & error.namespace.keys():
                break
            replaced.enter_context(_replaced(error.namespace))
            try:
                return capture()
            except LostSizeError as e:
                error = e
    raise error


@contextlib.contextmanager
def _replaced(namespace: dict[str, Any]) -> Iterator[None]:
    own = {name: value for name, value in namespace.items() if _is_function(value)}
    try:
        namespace.update(_NAMES)
        namespace.update((name, number_functions.FUNCTIONS[value]) for name, value in own.items())
        yield
    finally:
        namespace.update(own)
        for name in _NAMES:
            namespace.pop(name, None)


def _is_function(value: object) -> bool:
    """Whether it is one of Python's, of ``from math import log``."""
    return isinstance(value, BuiltinFunctionType) and value in number_functions.FUNCTIONS
