"""Sizes that torch does not know: ``int(rows / 4.0)``, ``math.ceil(0.5 * height)``, ``-time % 4``.

Of one that went through floats and back torch proves nothing (2.13), so that a dimension which
hangs on it counts as fixed, where it knows ``rows // 4``. Python's own ``int`` makes a number of
it, without a word where two dimensions are in it; and a file holds no ``ceil`` and ``floor``.
"""

import contextlib
import math
import operator
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import partial, reduce
from importlib import import_module
from types import FrameType
from typing import Any, Final
from unittest import mock

import torch
from torch.fx import Node

from .fx_nodes import computed, made, nodes_of, parts, value_of
from .symbols import always

_choose: Any = torch.sym_ite  # without types

_LARGEST: Final = 2**20
"""Of a factor's two parts: a float is then rounded once, and never up to the next whole number."""


class LostSizeError(ValueError):
    """A size would be none any more, or went through floats: reading bytecode may leave it one.

    Attributes:
        namespace: Of the module that called ``float``, ``int`` or ``len``, if one did.
    """

    def __init__(self, problem: str, namespace: dict[str, Any] | None = None) -> None:
        super().__init__(problem)
        self.namespace = namespace


@contextlib.contextmanager
def known() -> Iterator[None]:
    """A size that is rounded from a quotient is one of whole numbers."""
    functions: Any = import_module("torch.utils._sympy.functions")  # loads sympy
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.SymFloat, "__int__", _no_number))
        stack.enter_context(mock.patch.object(torch.SymInt, "__int__", _number))
        stack.enter_context(mock.patch.object(torch.SymInt, "__float__", _float, create=True))
        stack.enter_context(mock.patch.object(torch.Tensor, "__len__", _length))
        for name, rounds_up in (("TruncToInt", False), ("FloorToInt", False), ("CeilToInt", True)):
            kind = getattr(functions, name)
            stack.enter_context(
                mock.patch.object(kind, "eval", _rounding(functions, kind.eval, rounds_up))
            )
        for kind in (functions.Mod, functions.PythonMod):
            rest = _rest(functions, kind.eval)
            stack.enter_context(mock.patch.object(kind, "eval", rest))
        whole = _whole(functions.FloorDiv.eval)
        stack.enter_context(mock.patch.object(functions.FloorDiv, "eval", whole))
        extremes = functions.MinMaxBase
        two = _larger_of_two(functions, extremes._collapse_known_multiplicative_terms)
        name = "_collapse_known_multiplicative_terms"
        stack.enter_context(mock.patch.object(extremes, name, two))
        yield


def _no_number(number: torch.SymFloat) -> int:
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    what = "value" if free_unbacked_symbols(number) else "size"
    raise LostSizeError(f"int() of a {what}", sys._getframe(1).f_globals)


_own_number: Final[Any] = torch.SymInt.__int__


def _number(size: torch.SymInt) -> int:
    """Where torch itself asks; in forward, ``int(rows * 14)`` is to stay a size."""
    _require_torch(sys._getframe(1), "int")
    return int(_own_number(size))


def _float(size: torch.SymInt) -> float:
    _require_torch(sys._getframe(1), "float")
    return float(_own_number(size))


_own_length: Final[Any] = torch.Tensor.__len__


def _length(x: torch.Tensor) -> int:
    """``len(x)`` is a number of Python, whatever is returned here."""
    if x.dim() and isinstance(x.shape[0], torch.SymInt):
        _require_torch(sys._getframe(1), "len")
    return int(_own_length(x))


def _require_torch(caller: FrameType, name: str) -> None:
    if not is_torch(caller):
        raise LostSizeError(f"{name}() of a free size", caller.f_globals)


def is_torch(frame: FrameType) -> bool:
    """Whether it is torch itself that asks, or what it reckons with, and not forward."""
    return frame.f_globals.get("__name__", "").partition(".")[0] in ("torch", "sympy")


def _rounding(functions: Any, own: Any, rounds_up: bool) -> Any:
    def rounded(kind: Any, number: Any) -> Any:
        found = _quotient(functions, number)
        if found is None:
            return own(number)
        base, factor = found
        more = factor.denominator - 1 if rounds_up else 0
        return functions.FloorDiv(base * factor.numerator + more, factor.denominator)

    return classmethod(rounded)


def _quotient(functions: Any, number: Any) -> tuple[Any, Fraction] | None:
    """A whole number that is not negative and what it is multiplied by, if it is that."""
    if isinstance(number, functions.IntTrueDiv | functions.FloatTrueDiv):
        base, divisor = number.args
        if not divisor.is_number or divisor.is_zero:
            return None
        factor = 1 / _exact(divisor)
    elif number.is_Mul and len(number.args) == 2 and number.args[0].is_Float:
        factor, base = _exact(number.args[0]), number.args[1]
    else:
        return None
    base = base.args[0] if isinstance(base, functions.ToFloat) else base
    if factor < 0:  # ``arange`` downwards
        base, factor = -base, -factor
    is_whole = base.is_integer and base.is_nonnegative and not base.is_number
    fits = factor > 0 and max(factor.as_integer_ratio()) <= _LARGEST
    return (base, factor) if is_whole and fits else None


def _rest(functions: Any, own: Any) -> Any:
    """What is missing to a multiple, ``-n % 4``, is told as ``(n + 3) // 4 * 4 - n``.

    torch knows then that both together are one, and how often 4 goes into them.
    """
    sympify = import_module("sympy").sympify

    def rest(kind: Any, over: Any, by: Any) -> Any:
        if by.is_Integer and by.is_positive:
            counts = over.as_coefficients_dict().items()
            alike = sum(count * _without_rest(functions, size, by) for size, count in counts)
            constant, sizes = sympify(alike).as_coeff_Add()
            taken_off = sizes.as_coefficients_dict().items() if sizes != 0 else ()
            if taken_off and all(n.is_Integer and n < 0 and s.is_integer for s, n in taken_off):
                missing = constant % by + sizes
                return by * functions.FloorDiv(by - 1 - missing, by) + missing
        return own(over, by)

    return classmethod(rest)


def _whole(own: Any) -> Any:
    """``2 * n * n // n`` is ``2 * n``, and ``(3 * n - 1) // n`` is 2, as ``chunk`` counts parts."""
    expand = import_module("sympy").expand

    def whole(kind: Any, over: Any, by: Any) -> Any:
        if by.free_symbols and by.is_positive:
            for less in (0, 1):
                count = expand((over + less) / by)
                terms = count.as_coefficients_dict().items()
                if all(n.is_Integer and size.is_integer for size, n in terms):
                    return count - less
        return own(over, by)

    return classmethod(whole)


def _without_rest(functions: Any, size: Any, by: Any) -> Any:
    """What leaves the same: ``n`` for ``n % by``."""
    is_rest = isinstance(size, functions.Mod | functions.PythonMod) and size.args[1] == by
    return size.args[0] if is_rest else size


def _larger_of_two(functions: Any, own: Any) -> Any:
    """A size that was filled up is no less than it was before."""

    def larger(kind: Any, values: Any) -> Any:
        if len(values) == 2:
            for less, more in (tuple(values), tuple(values)[::-1]):
                if is_missing(functions, more - less):
                    return more if kind is functions.Max else less
        return own.__func__(kind, values)

    return classmethod(larger)


def is_missing(functions: Any, size: Any) -> bool:
    """Whether it is what is missing to a multiple: 0 or more."""
    filled = [term for term in size.as_coefficients_dict().items() if _is_filled(functions, *term)]
    return len(filled) == 1 and (
        filled[0][0].args[0] == filled[0][1] - 1 - (size - filled[0][0] * filled[0][1])
    )


def is_rest(functions: Any, size: Any) -> bool:
    """Whether it is what whole parts of a size leave: ``time - 4 * (time // 4)``."""
    for part, less in size.as_coefficients_dict().items():
        is_less = less.is_Integer and less < 0
        if is_less and isinstance(part, functions.FloorDiv):  # time // 8, of time // 2
            return bool(functions.FloorDiv(size - less * part, -less) == part)
    return False


def _is_filled(functions: Any, size: Any, count: Any) -> bool:
    return isinstance(size, functions.FloorDiv) and size.args[1] == count


def _exact(number: Any) -> Fraction:
    return Fraction(int(number)) if number.is_Integer else Fraction(float(number))


def write_out(program: torch.export.ExportedProgram) -> None:
    """Replace, in place, roundings of quotients of sizes by whole numbers, and long sums."""
    for part in parts(program.graph_module):
        for node in part.graph.nodes:
            with part.graph.inserting_before(node):
                found = _written_out(node)
            if found is not None:
                node.replace_all_uses_with(found)
                part.graph.erase_node(node)
        part.graph.eliminate_dead_code()


def hold(program: torch.export.ExportedProgram) -> None:
    """Say by ``trunc``, in place, what is rounded otherwise: a ``.pt2`` file holds nothing else.

    Raises:
        LostSizeError: It is rounded to some digits.
    """
    for node in nodes_of(program.graph_module):
        if node.target in _NOT_HELD:
            (number, *digits) = node.args
            if any(each is not None for each in digits):
                trace = node.meta.get("stack_trace", "")
                raise LostSizeError(f"{_NOT_HELD[node.target]}() of a size\n{trace}")
            with node.graph.inserting_before(node):
                node.replace_all_uses_with(_by_trunc(node.target, number))
            node.graph.erase_node(node)


def _by_trunc(rounding: Any, number: Any) -> Any:
    toward_0 = made(math.trunc, number)
    below = made(operator.sub, toward_0, _count(made(operator.lt, number, toward_0)))
    if rounding is math.floor:
        return below
    rest = made(operator.sub, number, below)
    more = _count(made(operator.gt, rest, 0 if rounding is math.ceil else 0.5))
    if rounding is round:  # to an even one in the middle
        odd = made(operator.mod, below, 2)
        half = _count(made(operator.eq, rest, 0.5))
        more = made(operator.add, more, made(operator.mul, odd, half))
    return made(operator.add, below, more)


def _count(holds: Node) -> Node:
    return made(_choose, holds, 1, 0)


def _written_out(node: Node) -> Any:
    if node.target is torch.sym_sum:
        return reduce(partial(computed, operator.add), node.args[0])  # type: ignore[arg-type]
    if node.target in (*_ROUNDINGS, round) and len(node.args) == 1 and _is_whole(node.args[0]):
        return node.args[0]
    found = _divided(node) if node.target in _ROUNDINGS else None
    if found is None:
        return None
    size, times, by = found
    over = computed(operator.mul, size, times)
    if node.target is math.ceil:
        over = computed(operator.add, over, computed(operator.sub, by, 1))
    return computed(operator.floordiv, over, by)


def floor_negative(program: torch.export.ExportedProgram) -> None:
    """Write out, in place, ``-n // 3`` as ``(-n - -n % 3) // 3``: ONNX rounds quotients towards 0.

    ``-(-n // 3)``, which rounds up, was wrong at two of three sizes.
    """
    for node in nodes_of(program.graph_module):
        if node.target is operator.floordiv and not all(map(_is_nonnegative, node.args)):
            over, by = node.args
            with node.graph.inserting_before(node):
                rest = computed(operator.mod, over, by)
                node.update_arg(0, computed(operator.sub, over, rest))


def _is_nonnegative(value: Any) -> bool:
    known = value_of(value)
    return isinstance(known, float | torch.SymFloat) or always(known >= 0)


_ROUNDINGS: Final = (math.ceil, math.floor, math.trunc)
_NOT_HELD: Final[Mapping[Any, str]] = {math.ceil: "ceil", math.floor: "floor", round: "round"}


def _divided(rounding: Node) -> tuple[Node, int, Any] | None:
    """A size, what it is multiplied by, and what by it is divided."""
    quotient = rounding.args[0]
    if not isinstance(quotient, Node) or len(quotient.args) != 2:
        return None
    a, b = map(_unfloated, quotient.args)
    if quotient.target is operator.truediv and isinstance(a, Node):
        factor = Fraction(1) if isinstance(b, Node) else 1 / Fraction(b)
    elif quotient.target is operator.mul and isinstance(a, Node) != isinstance(b, Node):
        a, b = (a, b) if isinstance(a, Node) else (b, a)
        factor = Fraction(b)
    else:
        return None
    if not all(_is_whole(each) for each in (a, b) if isinstance(each, Node)):
        return None  # of ``1.25 * rows / 4``, a float
    is_known = not isinstance(b, Node) or always(b.meta["val"] > 0)
    is_known &= rounding.target is not math.trunc or always(a.meta["val"] >= 0)
    if not (is_known and factor > 0 and max(factor.as_integer_ratio()) <= _LARGEST):
        return None
    return (a, 1, b) if isinstance(b, Node) else (a, *factor.as_integer_ratio())


def _is_whole(value: Any) -> bool:
    """Whether it is rounded for nothing, as ``math.ceil(4 * size)``: ONNX rounds floats alone."""
    return isinstance(value, Node) and isinstance(value.meta.get("val"), torch.SymInt)


def _unfloated(value: Any) -> Any:
    is_float = isinstance(value, Node) and value.target is torch.sym_float
    return value.args[0] if is_float else value
