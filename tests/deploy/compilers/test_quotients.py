"""Sizes that went through floats: what torch is told of them is what Python answers."""

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from edgeport.deploy.compilers import quotients

sympy: Any = import_module("sympy")  # neither has types
functions: Any = import_module("torch.utils._sympy.functions")

SIZE = sympy.Symbol("n", integer=True, positive=True)

_true: Any = functions.IntTrueDiv
_float: Any = functions.FloatTrueDiv
_widened: Any = functions.ToFloat(SIZE)


@pytest.mark.parametrize(
    ("number", "python"),
    [
        (_true(3 * SIZE + 1, 7), lambda n: (3 * n + 1) / 7),
        (_float(_widened, sympy.Float(3.0)), lambda n: n / 3.0),
        (_float(_widened, sympy.Float(0.5)), lambda n: n / 0.5),
        (sympy.Float(0.375) * _widened, lambda n: 0.375 * n),
    ],
)
def test_what_is_rounded_is_a_quotient_of_whole_numbers(
    number: Any, python: Callable[[int], float]
) -> None:
    roundings = (functions.TruncToInt, int), (functions.FloorToInt, math.floor)
    for kind, rounds in (*roundings, (functions.CeilToInt, math.ceil)):
        with quotients.known():
            told = kind(number)
        assert not told.has(functions.TruncToInt, functions.FloorToInt, functions.CeilToInt)
        sizes = (*range(1, 200), 2**31 - 1, 2**31)
        assert all(told.subs(SIZE, n) == rounds(python(n)) for n in sizes)


@pytest.mark.parametrize(
    "number",
    [
        sympy.Float(0.3) * _widened,  # no float is 0.3
        _float(sympy.Float(3.0) * _widened, sympy.Float(49.0)),  # rounded twice
        _true(SIZE - 5, 2),  # may be less than 0
        _true(SIZE, sympy.Symbol("m", integer=True, positive=True)),
    ],
)
def test_what_is_less_plain_is_left_to_torch(number: Any) -> None:
    with quotients.known():
        assert functions.TruncToInt(number).func is functions.TruncToInt
