"""What forward asks of values is answered as by the example, and asserted in the program.

A truth by ``if``, a number by ``int``, ``float`` or as an index, a key, a text. What Python does
with them, and torch's symbols do not, is done here.
"""

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from edgeport.deploy.compilers.operators import quotients
from edgeport.deploy.diagnosis.places import Line
from edgeport.deploy.diagnosis.telling import only_tells
from edgeport.runtimes.run_failures import ANOTHER_WAY

from . import one_way, rows, texts

_full: Callable[..., Tensor] = torch.full
_choose: Any = torch.sym_ite  # these have no types
_assert: Any = torch.ops.aten._assert_async.msg


@contextlib.contextmanager
def answered(numbers: list[str], filling: rows.Filling) -> Iterator[None]:
    """While it is entered, what is asked is answered as by the example.

    Args:
        numbers: Where lines are noted that make a number of Python's of a value.
        filling: Whether a count that is asked for is some.
    """
    with (
        mock.patch.object(torch.SymInt, "__format__", _formatted),
        mock.patch.object(torch.SymFloat, "__format__", _formatted),
        mock.patch.object(torch.SymFloat, "__floordiv__", _floor_divided),
        mock.patch.object(torch.SymFloat, "__bool__", _is_not_0),
        mock.patch.object(torch.SymBool, "__eq__", _is_equal),
        mock.patch.object(torch.SymInt, "__hash__", _hashed),
        _some_chosen(),
        _answers_kept(numbers, filling),
    ):
        yield


@contextlib.contextmanager
def without_numbers() -> Iterator[None]:
    """Say where Python makes a number of a value in forward, as by ``float(x.max())``.

    Raises:
        LostSizeError: There.
    """
    node: Any = import_module("torch.fx.experimental.sym_node").SymNode  # loads sympy
    with contextlib.ExitStack() as stack:
        for name in ("guard_int", "guard_float"):
            stack.enter_context(mock.patch.object(node, name, _guarding(getattr(node, name))))
        yield


@contextlib.contextmanager
def _some_chosen() -> Iterator[None]:
    """Rows that are chosen are taken to be some, where torch asks: it computes with none, too."""
    from torch.fx.experimental.symbolic_shapes import ShapeEnv  # loads sympy

    own: Any = ShapeEnv._evaluate_expr

    def evaluated(env: ShapeEnv, expr: Any, *args: Any, **options: Any) -> Any:
        answer = _of_some(env, expr)
        return own(env, expr, *args, **options) if answer is None else answer

    with mock.patch.object(ShapeEnv, "_evaluate_expr", evaluated):
        yield


def _of_some(env: Any, expr: Any) -> Any:
    """What is answered alike of all counts from 2 on, if it is."""
    from .special_sizes import of_more_than_one  # loads sympy

    symbols = expr.free_symbols
    is_count = len(symbols) == 1 and symbols <= env.size_like
    return of_more_than_one(expr, *symbols) if is_count else None


def _of_any(expr: Any) -> bool | None:
    """What is answered alike of all numbers from 1 on, as ``if counts[expert] == 0`` is."""
    from .special_sizes import of_more_than_one  # loads sympy

    symbols = expr.free_symbols
    answer = of_more_than_one(expr, *symbols) if len(symbols) == 1 else None
    return None if answer is None or expr.subs(*symbols, 1) != answer else bool(answer)


@contextlib.contextmanager
def _answers_kept(numbers: list[str], filling: rows.Filling) -> Iterator[None]:
    """What forward asks of values is asserted in the program, as it was answered.

    Torch's own assertions are of what it makes of a question: a bound is the range of a number,
    and goes with it; ``not x > 1`` is ``x <= 1``, which NaN is not; what equals 1 is 1.

    Args:
        numbers: Where lines are noted that make a number of Python's of a value.
        filling: Whether a count that is asked for is some.
    """
    node: Any = import_module("torch.fx.experimental.sym_node").SymNode  # loads sympy
    with contextlib.ExitStack() as stack:
        for name, symbol in _ASKED.items():
            kept = _keeping(getattr(node, name), symbol, numbers, filling)
            stack.enter_context(mock.patch.object(node, name, kept))
        yield


_ASKED: Final[dict[str, Any]] = {
    "guard_bool": torch.SymBool,
    "guard_int": torch.SymInt,
    "guard_float": torch.SymFloat,
}


def _keeping(own: Any, symbol: Any, numbers: list[str], filling: rows.Filling) -> Any:
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    def guard(node: Any, file: str, line: int) -> Any:
        asker = _asker(sys._getframe(1)) if node.expr.free_symbols else None
        if asker is None or not (free_unbacked_symbols(node.expr) or _is_of_one(node)):
            return own(node, file, line)
        users = _of_user(asker)
        place = Line(users.f_code.co_filename, users.f_lineno)
        asked = symbol(node)
        if only_tells(place):
            return _of_example(asked)
        if sys._getframe(1).f_code is _as_tensor.__code__:  # of a list
            raise NotImplementedError("a list of numbers that are made of values is an index")
        held, answer = _as_tensor(asked), _of_example(asked)
        if symbol is torch.SymFloat:
            _assert(held.isfinite() == math.isfinite(answer), ANOTHER_WAY)
        if symbol is torch.SymBool:
            some = _of_any(node.expr)
            filling.is_possible |= some not in (None, answer)
            answer = some if filling.is_on and some is not None else answer
            _assert(held == int(answer), one_way.SOME if answer == some else ANOTHER_WAY)
            return answer
        if not math.isnan(answer):
            _assert(_is_same(held, answer), f"{one_way.NUMBER}{len(numbers)}")
            numbers.append(str(place))
        return answer

    return guard


def _is_of_one(node: Any) -> bool:
    """Whether sizes of 1 alone are answered otherwise, of which torch is told that there are none.

    A sample of that size may have been sent another way before, by its values.
    """
    from .special_sizes import differs_at_1  # loads sympy

    return node.expr.free_symbols <= node.shape_env.backed_var_to_val.keys() and differs_at_1(
        node.expr
    )


def _is_same(held: Tensor, answer: float) -> Tensor:
    """Whether it is that number, but for how an engine rounds."""
    if isinstance(answer, int) or math.isinf(answer):
        return held.eq(answer)
    return (held - answer).abs().le(_ROUNDED * abs(answer))


_ROUNDED: Final = 1e-5
"""Of a number that is made of many in float32."""


def _as_tensor(asked: Any) -> Tensor:
    if isinstance(asked, torch.SymFloat):
        return _full((), asked, dtype=torch.float64)
    return _full((), _choose(asked, 1, 0) if isinstance(asked, torch.SymBool) else asked)


def _guarding(own: Any) -> Any:
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    def guard(node: Any, file: str, line: int) -> Any:
        asker = _asker(sys._getframe(1))
        if not free_unbacked_symbols(node.expr) or asker is None:
            return own(node, file, line)
        if only_tells(Line(asker.f_code.co_filename, asker.f_lineno)):
            return own(node, file, line)
        raise quotients.LostSizeError("a number that is made of values", asker.f_globals)

    return guard


def _asker(frame: Any) -> Any:
    """The frame whose code asks for a value: forward's, or that of a layer of torch's."""
    while texts.is_ours(frame) or (frame.f_code.co_name in _BETWEEN and quotients.is_torch(frame)):
        frame = frame.f_back
    is_machinery = quotients.is_torch(frame) and not _LAYERS.match(frame.f_globals["__name__"])
    return None if is_machinery else frame


def _of_user(asker: Any) -> Any:
    """The frame that called a layer of torch's, if one asks: ``self.layers[int(i)]``."""
    frame = asker
    while frame is not None and quotients.is_torch(frame):
        frame = frame.f_back
    return frame or asker


_BETWEEN: Final = (
    *("__bool__", "__float__", "__int__", "__index__", "__hash__", "bool_", "int_", "float_"),
    *("__contains__", "__torch_function__", "handle_torch_function"),
    *("promote", "binary_magic_impl", "rbinary_magic_impl", "unary_magic_impl"),  # True + 1
    *("_tensor_min_max", "<lambda>"),  # torch.export has them in place of ``max`` and ``min``
)

_LAYERS: Final = re.compile(r"torch\.(nn|distributions|functional)\b")
"""Whose code is forward's, as far as values decide in it."""


def _is_not_0(number: Any) -> bool:
    """As ``if x.max().item():`` asks, for which torch has no symbol."""
    return bool(number != 0)


_own_equal: Final[Any] = torch.SymBool.__eq__


def _is_equal(truth: Any, other: Any) -> Any:
    """As a key asks, ``{True: a}[x.max() > 1]``, which torch cannot compare."""
    return bool(truth) == other if isinstance(other, bool) else _own_equal(truth, other)


_own_hash: Final[Any] = torch.SymInt.__hash__


def _hashed(number: Any) -> int:
    """A key, as in ``heads[int(x.argmax())]``, is that of the example; torch refuses it.

    Sizes of what is chosen stay refused, of which einops makes keys, and goes on without.
    """
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    node = number.node
    symbols = set() if node.is_nested_int() else free_unbacked_symbols(node.expr)
    if not symbols - node.shape_env.size_like:
        return int(_own_hash(number))
    return hash(node.guard_int("", 0))


_own_floor: Final[Any] = torch.SymFloat.__floordiv__


def _floor_divided(x: Any, y: Any) -> Any:
    """As Python has it, 1.0 // 0.1 is 9: torch floors the quotient, which is 10.0."""
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    numbers = [each for each in (x, y) if isinstance(each, torch.SymFloat)]
    if isinstance(y, Tensor) or not any(free_unbacked_symbols(each.node.expr) for each in numbers):
        return _own_floor(x, y)
    return (_full((), x, dtype=torch.float64) // _full((), y, dtype=torch.float64)).item()


def _formatted(symbol: Any, spec: str) -> str:
    """A text for people, ``f"{x.max().item():.2f}"``, has the value of the example.

    One without a format, ``f"{n}"``, or of a whole number, ``f"{n:02d}"``, may be a key.
    """
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    if not spec or not free_unbacked_symbols(symbol.node.expr):
        return object.__format__(symbol, spec)
    is_key = isinstance(symbol, torch.SymInt) and texts.is_asked_for(symbol, sys._getframe(1))
    return format(symbol.node.guard_int("", 0) if is_key else _of_example(symbol), spec)


def _of_example(symbol: Any) -> Any:
    """What is asked, as the example has it; no more is known of others than before."""
    env = symbol.node.shape_env
    known = symbol.node.expr.xreplace(env.real_tensor_prop_unbacked_vals)
    return symbol.node.pytype(known.xreplace(env.backed_var_to_val))
