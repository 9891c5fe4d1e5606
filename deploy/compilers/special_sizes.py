"""Sizes of 0 and 1, which torch.export takes as special, where a free size can be 1.

It asks whether a size is 1 and keeps the answer, so that what a convolution leaves of the
smallest image, 1 x 1, was refused: "not all values of h satisfy h // 8 != 1".
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any
from unittest import mock

import sympy
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.functions import FloorDiv

from edgeport.deploy.compilers.operators import experts
from edgeport.deploy.sources.source import Source

from . import program


def captured(source: Source, *, read: bool = True) -> ExportedProgram:
    """Capture a module by the first way that it bears.

    Args:
        source: What to capture.
        read: Whether its bytecode may be read too, which follows arrays of numpy.

    Raises:
        Exception: Whatever torch.export raises.
    """
    ran, was_read = (partial(program.capture, source, strict=strict) for strict in (False, True))
    free, free_read = (partial(without_special_sizes, way) for way in (ran, was_read))
    return first(free, ran, *((was_read, free_read) if read else ()))  # some need special sizes


def decomposed(
    captured: ExportedProgram, table: Mapping[Any, Callable[..., Any]]
) -> ExportedProgram:
    """The same program in other operators.

    Raises:
        Exception: Whatever torch.export, or a function of the table, raises.
    """
    decompose = partial(captured.run_decompositions, dict(table))
    with experts.known():
        return first(partial(without_special_sizes, decompose), decompose)


def without_special_sizes(way: Callable[[], ExportedProgram]) -> ExportedProgram:
    """What is asked of a size is answered as if it were none of 0 and 1; the proof tries 1."""
    config: Any = import_module("torch.fx.experimental._config")
    with (
        config.patch(backed_size_oblivious=True),
        mock.patch.object(ShapeEnv, "_evaluate_expr", _evaluated),
    ):
        return way()


def first(*ways: Callable[[], ExportedProgram]) -> ExportedProgram:
    """The first that succeeds; else the first error, which has the user's own frames."""
    errors: list[Exception] = []
    for way in ways:
        try:
            return way()
        except Exception as e:  # torch.export raises a dozen kinds
            errors.append(e)
    raise errors[0]


_original: Any = ShapeEnv._evaluate_expr


def _evaluated(self: ShapeEnv, expr: sympy.Basic, *args: Any, **options: Any) -> sympy.Basic:
    if isinstance(expr, sympy.Eq | sympy.Ne) and expr.rhs.is_Integer and expr.rhs.is_positive:
        lhs: Any = expr.lhs
        size = lhs / expr.rhs  # a stride is compared with that of an axis of 1: 24 * n != 24
        if _is_least(self, size):
            return sympy.true if isinstance(expr, sympy.Ne) else sympy.false
    found: sympy.Basic = _original(self, expr, *args, **options)
    return found


def _is_least(env: ShapeEnv, size: Any) -> bool:
    """Whether 1 is the least that a size can be: where all dimensions are at their smallest."""
    symbols = size.free_symbols
    if not symbols or not symbols <= env.backed_var_to_val.keys() or not _rises(size):
        return False
    return bool(size.xreplace({each: env.var_to_range[each].lower for each in symbols}) == 1)


def _rises(size: Any) -> bool:
    """Whether it is made of free sizes, and a larger one never makes it smaller."""
    if isinstance(size, FloorDiv):
        over, under = size.args
        return bool(under.is_Integer and under.is_positive) and _rises(over)
    if isinstance(size, sympy.Mul) and any(part.is_negative for part in size.args):
        return False
    is_sum = isinstance(size, sympy.Add | sympy.Mul)
    return all(map(_rises, size.args)) if is_sum else bool(size.is_Symbol or size.is_Integer)
