"""Sizes that went through floats and back: ``int(rows / 4.0)``, ``math.ceil(0.5 * height)``.

torch proves nothing about such a size (2.13), so that a dimension which hangs on it counts as
fixed, where it knows ``rows // 4``. What is said of the values of symbols is all that changes here.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from typing import Any, Final
from unittest import mock

_LARGEST: Final = 2**20
"""Of a factor's two parts: a float is then rounded once, and never up to the next whole number."""


@contextlib.contextmanager
def known() -> Iterator[None]:
    """A size that is rounded from a quotient is one of whole numbers."""
    functions: Any = import_module("torch.utils._sympy.functions")  # loads sympy
    with contextlib.ExitStack() as stack:
        for name, rounds_up in (("TruncToInt", False), ("FloorToInt", False), ("CeilToInt", True)):
            kind = getattr(functions, name)
            stack.enter_context(
                mock.patch.object(kind, "eval", _rounding(functions, kind.eval, rounds_up))
            )
        yield


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
        factor = 1 / _exact(divisor) if divisor.is_positive and divisor.is_number else None
    elif number.is_Mul and len(number.args) == 2 and number.args[0].is_Float:
        factor, base = _exact(number.args[0]), number.args[1]
    else:
        return None
    base = base.args[0] if isinstance(base, functions.ToFloat) else base
    is_whole = base.is_integer and base.is_nonnegative and not base.is_number
    fits = factor is not None and factor > 0 and max(factor.as_integer_ratio()) <= _LARGEST
    return (base, factor) if is_whole and fits and factor is not None else None


def _exact(number: Any) -> Fraction:
    return Fraction(int(number)) if number.is_Integer else Fraction(float(number))
