"""Sizes of 0 and 1, which torch.export takes as special, where a free size can be 1.

It asks whether a size is 1 and keeps the answer, so that what a convolution leaves of the
smallest image, 1 x 1, was refused: "not all values of h satisfy h // 8 != 1".
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any
from unittest import mock

import sympy
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.functions import FloorDiv


def oblivious_first(
    make: Callable[[], ExportedProgram], *others: Callable[[], ExportedProgram]
) -> ExportedProgram:
    """Make a program whose sizes are not special.

    Args:
        make: Called so; then with special sizes, as some programs need them.
        others: What is called then.

    Raises:
        Exception: The first of all errors: it has the user's own frames.
    """
    errors: list[Exception] = []
    ways: list[Callable[[], ExportedProgram]] = [partial(_obliviously, make), make, *others]
    for way in ways:
        try:
            return way()
        except Exception as e:  # torch.export raises a dozen kinds
            errors.append(e)
    raise errors[0]


def _obliviously(make: Callable[[], ExportedProgram]) -> ExportedProgram:
    with oblivious_sizes():
        return make()


@contextlib.contextmanager
def oblivious_sizes() -> Iterator[None]:
    """What is asked of a size is answered as if it were none of 0 and 1; the proof tries 1."""
    config: Any = import_module("torch.fx.experimental._config")
    with (
        config.patch(backed_size_oblivious=True),
        mock.patch.object(ShapeEnv, "_evaluate_expr", _evaluated),
    ):
        yield


_original: Any = ShapeEnv._evaluate_expr


def _evaluated(self: ShapeEnv, expr: sympy.Basic, *args: Any, **options: Any) -> sympy.Basic:
    if isinstance(expr, sympy.Eq | sympy.Ne) and expr.rhs == 1 and _is_least(self, expr.lhs):
        return sympy.true if isinstance(expr, sympy.Ne) else sympy.false
    found: sympy.Basic = _original(self, expr, *args, **options)
    return found


def _is_least(env: ShapeEnv, size: sympy.Expr) -> bool:
    """Whether 1 is the least that a size can be: where all dimensions are at their smallest."""
    ranges = env.var_to_range
    symbols = size.free_symbols
    if not symbols or not all(each in ranges and ranges[each].is_int for each in symbols):
        return False
    smallest = {each: ranges[each].lower for each in symbols}
    return _rises(size) and size.xreplace(smallest) == 1


def _rises(size: sympy.Basic) -> bool:
    """Whether it is made of free sizes, and larger ones never make it smaller."""
    if isinstance(size, sympy.Mul | FloorDiv) and any(part.is_negative for part in size.args):
        return False
    is_sum = isinstance(size, sympy.Add | sympy.Mul | FloorDiv)
    return (is_sum and all(map(_rises, size.args))) or isinstance(
        size, sympy.Symbol | sympy.Integer
    )
