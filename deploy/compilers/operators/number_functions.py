"""``math.log(x.max().item())`` in forward: functions of numbers that are made of values or sizes.

Python's own take numbers alone, so that the file would hold that of the example, and what forward
decides by it. A tensor of one element in float64 gives what they give.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from itertools import product
from typing import Any, Final
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from edgeport.runtimes.run_failures import ANOTHER_WAY

from .free_sizes import square_root
from .symbols import is_free

_full: Callable[..., Tensor] = torch.full
_assert: Any = torch.ops.aten._assert_async.msg  # operators are made on demand: no types


def _log(x: Tensor, base: Tensor | None = None) -> Tensor:
    return x.log() if base is None else x.log() / base.log()


def _log_of(base: float) -> Callable[[Tensor], Tensor]:
    """A logarithm that is whole of whole powers, as Python's: ``ceil`` sees a last digit."""

    def log(x: Tensor) -> Tensor:
        found = x.log() / math.log(base)
        whole = found.round()
        return torch.where(torch.pow(base, whole) == x, whole, found)

    return log


def _hypot(*sides: Tensor) -> Tensor:
    lengths = torch.stack(sides).abs()
    largest = lengths.max()
    found = largest * (lengths / largest.clamp(min=1e-300)).square().sum().sqrt()
    return torch.where(lengths.isinf().any(), math.inf, found)  # whatever the others are


def _is_close(a: Tensor, b: Tensor, *, rel_tol: float = 1e-9, abs_tol: float = 0.0) -> Tensor:
    """Either may be the larger one, other than in ``torch.isclose``."""
    largest = torch.maximum(a.abs(), b.abs())
    near = (a - b).abs() <= (rel_tol * largest).clamp(min=abs_tol)
    return (a == b) | (near & largest.isfinite())


_RAISING: Final[Mapping[str, Callable[..., Tensor]]] = {
    "acos": torch.acos,
    "acosh": torch.acosh,
    "asin": torch.asin,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "atan2": torch.atan2,
    "atanh": torch.atanh,
    "copysign": torch.copysign,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "degrees": torch.rad2deg,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "fabs": torch.abs,
    "fmod": torch.fmod,
    "hypot": _hypot,
    "lgamma": torch.lgamma,
    "log": _log,
    "log10": _log_of(10.0),
    "log1p": torch.log1p,
    "log2": _log_of(2.0),
    "pow": torch.pow,
    "radians": torch.deg2rad,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "tan": torch.tan,
    "tanh": torch.tanh,
}
"""Those that raise what is no number, or infinite, of numbers that are not."""

_ASKING: Final[Mapping[str, Callable[..., Tensor]]] = {
    "isclose": _is_close,
    "isfinite": torch.isfinite,
    "isinf": torch.isinf,
    "isnan": torch.isnan,
}


_OF_NUMPY: Final[Mapping[str, Callable[..., Tensor]]] = {
    **{name: _RAISING[name] for name in ("cos", "cosh", "degrees", "exp", "exp2", "expm1", "fabs")},
    **{name: _RAISING[name] for name in ("log", "log10", "log1p", "log2", "radians", "sin")},
    **{name: _RAISING[name] for name in ("sinh", "sqrt", "tan", "tanh")},
    "arccos": torch.acos,
    "arccosh": torch.acosh,
    "arcsin": torch.asin,
    "arcsinh": torch.asinh,
    "arctan": torch.atan,
    "arctanh": torch.atanh,
    "deg2rad": torch.deg2rad,
    "rad2deg": torch.rad2deg,
    "rint": torch.round,
}
"""Which numpy asks of an object that is none of its own, by method, and which raise nothing."""


@contextlib.contextmanager
def known() -> Iterator[None]:
    """They take symbols, while a program is captured by running it, not by reading its bytecode."""
    with contextlib.ExitStack() as stack:
        for own, function in FUNCTIONS.items():
            stack.enter_context(mock.patch.object(math, own.__name__, function))
        methods = {name: _as_method(function) for name, function in _OF_NUMPY.items()}
        for kind, (name, method) in product(_SYMBOLS, {**methods, **_OF_ARRAYS}.items()):
            stack.enter_context(mock.patch.object(kind, name, method, create=True))
        stack.enter_context(mock.patch.object(torch.SymFloat, "__round__", _rounded))
        exporting: Any = import_module("torch._export.non_strict_utils")  # loads sympy
        chosen = _chosen(exporting._tensor_min_max)
        stack.enter_context(mock.patch.object(exporting, "_tensor_min_max", chosen))
        yield


def _chosen(own: Any) -> Any:
    """``min`` and ``max`` of floats of values: torch asks which it is, and so makes ways of it."""

    def chosen(*given: Any, real_callable: Any, tensor_callable: Any, **options: Any) -> Any:
        if len(given) > 2 and not options:
            given = ([*given],)  # which are compared one by one
        are_floats = all(isinstance(each, float | torch.SymFloat) for each in given)
        if len(given) == 1 or options or not are_floats or not any(map(_is_of_values, given)):
            functions = {"real_callable": real_callable, "tensor_callable": tensor_callable}
            return own(*given, **functions, **options)
        first, second = (_full((), each, dtype=torch.float64) for each in given)
        is_second = second > first if tensor_callable is torch.maximum else second < first
        return torch.where(is_second, second, first).item()

    return chosen


_own_round: Final[Any] = torch.SymFloat.__dict__["__round__"]


def _rounded(number: Any, digits: int | None = None) -> Any:
    """To some digits of values, as ``round``."""
    if digits is None or not _is_of_values(number):
        return _own_round(number, digits)
    exact, scale = _full((), number, dtype=torch.float64), 10.0 ** abs(digits)
    if digits < 0:
        return ((exact / scale).round() * scale).item()
    scaled = exact * scale
    high = exact * _SPLIT - (exact * _SPLIT - exact)
    lost = (high * scale - scaled) + (exact - high) * scale
    below = scaled.floor()
    by_rest = torch.where(lost < 0, below, torch.where(lost > 0, below + 1, scaled.round()))
    found = torch.where(scaled - below == 0.5, by_rest, scaled.round()) / scale
    return torch.where(scaled.abs() < 2.0**53, found, exact).item()  # beyond, it has no such digit


_SPLIT: Final = 2.0**27 + 1
"""Half of the digits of a float64, by which its product with a power of ten is exact: Dekker,
"A floating-point technique for extending the available precision", 1971. 2.675 * 100 is 267.5."""


def _as_type(number: Any, kind: Any) -> Any:
    if np.dtype(kind).kind not in "iu":
        return number
    if _is_of_values(number):
        value, held = _full((), number, dtype=torch.float64), np.iinfo(kind)
        _assert((value > held.min - 1.0) & (value < held.max + 1.0), ANOTHER_WAY)
    return _sym_int(number) if isinstance(number, torch.SymFloat) else number


_sym_int: Final[Any] = torch.sym_int  # it has no types


_OF_ARRAYS: Final[Mapping[str, Callable[..., Any]]] = {
    "astype": _as_type,
    "item": lambda number: number,
}
"""Methods of what numpy's functions give: ``np.ceil(np.log(n)).astype("int").item()``."""


def _as_method(function: Callable[..., Tensor]) -> Callable[[Any], Any]:
    return lambda number: function(_full((), number, dtype=torch.float64)).item()


def _of_symbols(own: Any, function: Callable[..., Tensor]) -> Any:
    is_asking = own.__name__ in _ASKING

    def of_symbols(*given: Any, **options: Any) -> Any:
        numbers = [each.item() if isinstance(each, FakeTensor) else each for each in given]
        if not any(map(is_free, numbers)):
            return own(*numbers, **options)
        if own is _own_root and not any(map(_is_of_values, numbers)):
            return square_root(*numbers)  # of sizes torch has one
        tensors = [_full((), each, dtype=torch.float64) for each in numbers]
        found = function(*tensors, **options)
        if not is_asking and any(map(_is_of_values, numbers)):
            _assert(_is_answered(found, tensors), ANOTHER_WAY)
        return found.item()

    return of_symbols


_own_root: Final = math.sqrt
_SYMBOLS: Final = (torch.SymInt, torch.SymFloat)


def _is_of_values(number: Any) -> bool:
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    return is_free(number) and bool(free_unbacked_symbols(number.node.expr))


def _is_answered(found: Tensor, given: list[Tensor]) -> Tensor:
    """Whether Python raises neither a ``ValueError`` nor an ``OverflowError``."""
    values = torch.stack(given)
    was_nan, was_infinite = values.isnan().any(), values.isinf().any()
    return found.isfinite() | (found.isnan() & was_nan) | (found.isinf() & was_infinite)


FUNCTIONS: Final[Mapping[Any, Any]] = {
    getattr(math, name): _of_symbols(getattr(math, name), function)
    for name, function in {**_RAISING, **_ASKING}.items()
}
"""By Python's own."""
