"""Sizes of 0 and 1, which torch.export takes as special, where a free size can be 1.

It asks whether a size is 1 and keeps the answer, so that what a convolution leaves of the
smallest image, 1 x 1, was refused: "not all values of h satisfy h // 8 != 1".
"""

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial, reduce
from importlib import import_module
from typing import Any, Final
from unittest import mock

import numpy as np
import sympy
from sympy.core.relational import Relational
from sympy.logic.boolalg import BooleanFunction
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._sympy.functions import FloorDiv

from edgeport.deploy.compilers.operators import experts, quotients
from edgeport.deploy.sources.samples import roomy_sizes, sizes_of
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
    free, free_read = (partial(without_special_sizes, way, source) for way in (ran, was_read))
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
        return with_or_without(decompose)


def with_or_without(
    way: Callable[[], ExportedProgram], source: Source | None = None
) -> ExportedProgram:
    """By a way without special sizes, else as it is: some programs need them.

    Raises:
        Exception: Whatever the first raises.
    """
    return first(partial(without_special_sizes, way, source), way)


def without_special_sizes(
    way: Callable[[], ExportedProgram], source: Source | None = None
) -> ExportedProgram:
    """What is asked of a size is answered as if it were none of 0 and 1; the proof tries 1.

    Some questions of sizes are answered one way where the source has samples of both, so that the
    proof tells whether it is right. Whether something is missing to a multiple, ``if -time % 4 >
    0``, by yes: filled up by nothing, a tensor is the same. Whether several sizes make one number,
    ``if rows * columns == 196: return self.places``, by no: what is resized to its own size is too.
    """
    config: Any = import_module("torch.fx.experimental._config")
    differ: list[tuple[Any, Mapping[Any, str]]] = []

    def evaluated(env: ShapeEnv, expr: sympy.Basic, *args: Any, **options: Any) -> sympy.Basic:
        if source is not None:
            if (answer := _if_filled_up(source, env, expr)) is not None:
                return answer
            if (answer := _if_several_differ(source, env, expr)) is not None:
                differ.append((expr, _named(source, env, expr)))
                return answer
        return _evaluated(env, expr, *args, **options)

    with (
        config.patch(backed_size_oblivious=True),
        mock.patch.object(ShapeEnv, "_evaluate_expr", evaluated),
    ):
        found = way()
    if source is not None and differ:
        from .size_questions import require_alike

        for question, names in dict(differ).items():
            require_alike(source, found, question, names)
    return found


def _if_filled_up(source: Source, env: ShapeEnv, expr: sympy.Basic) -> sympy.Basic | None:
    answer = _as_if_missing(expr)
    if answer is None:
        return None
    missing, answered = answer
    found = {missing.xreplace(at) == 0 for at in _at_samples(source, env, missing)}
    return answered if found == {True, False} else None


def _if_several_differ(source: Source, env: ShapeEnv, expr: sympy.Basic) -> sympy.Basic | None:
    answer = _EITHER.get(type(expr))
    if answer is None or len(expr.free_symbols) < 2 or not _is_followed(env, expr, answer):
        return None
    found = {expr.xreplace(at) for at in _at_samples(source, env, expr)}
    return answer if found == {sympy.true, sympy.false} else None


def _is_followed(env: ShapeEnv, expr: sympy.Basic, answer: sympy.Basic) -> bool:
    """Whether the sizes that are followed give that answer."""
    return bool(expr.xreplace(env.backed_var_to_val) == answer)


def _at_samples(source: Source, env: ShapeEnv, expr: sympy.Basic) -> list[dict[Any, sympy.Basic]]:
    """What sizes in an expression are in each sample; none if it is not known which they are."""
    names = _named(source, env, expr)
    if not names:
        return []
    samples = [sizes_of(source.signature, sample.inputs) for sample in source.samples]
    return [{each: sympy.Integer(sizes[name]) for each, name in names.items()} for sizes in samples]


def _named(source: Source, env: ShapeEnv, expr: sympy.Basic) -> dict[Any, str]:
    """Which dimensions the sizes in an expression are; nothing if that is not known."""
    known: Any = env.backed_var_to_val  # its types have keys that no expression tells
    names = {size: name for name, size in roomy_sizes(source.signature).items()}
    used = {each: int(known.get(each, -1)) for each in expr.free_symbols}
    if not names.keys() >= {*used.values()} or len(names) < len(source.signature.dimensions):
        return {}
    return {each: names[size] for each, size in used.items()}


def _as_if_missing(expr: Any) -> tuple[Any, sympy.Basic] | None:
    """What is missing, and the answer where it is more than 0; to ``64 * all != 64 * time`` too."""
    if type(expr) not in {*_ANSWERS, *_ANSWERS_BELOW}:
        return None
    if not all(isinstance(side, sympy.Expr) for side in expr.args):  # of what holds, no number
        return None
    sign, found = 1, []
    apart = (expr.args[0] - expr.args[1]).replace(_is_at_least_1, _unbounded)
    for part in sympy.Mul.make_args(sympy.factor_terms(apart)):
        if quotients.is_missing(_functions, part) or _is_rest(part):
            found.append(part)
        elif quotients.is_missing(_functions, -part) or _is_rest(-part):
            found.append(-part)
            sign = -sign
        elif part.is_negative and part.is_Integer:
            sign = -sign
        elif not part.is_positive:
            return None
    answers = _ANSWERS if sign > 0 else _ANSWERS_BELOW
    if len(found) != 1 or type(expr) not in answers:
        return None
    return found[0], answers[type(expr)]


def _is_rest(size: Any) -> bool:
    """As of ``if time % 4 != 0`` or ``if time // 4 * 4 < time``: something is filled up then."""
    if isinstance(size, _functions.Mod | _functions.PythonMod):
        return bool(size.args[1].is_Integer)
    return quotients.is_rest(_functions, size)


def _is_at_least_1(size: Any) -> bool:
    return isinstance(size, _functions.Max) and len(size.args) == 2 and 1 in size.args


def _unbounded(size: Any) -> Any:
    return next(each for each in size.args if each != 1)


_EITHER: Final[Mapping[Any, sympy.Basic]] = {sympy.Ne: sympy.true, sympy.Eq: sympy.false}
_ANSWERS: Final[Mapping[Any, sympy.Basic]] = {
    **_EITHER,
    sympy.Gt: sympy.true,
    sympy.Le: sympy.false,
}
_ANSWERS_BELOW: Final[Mapping[Any, sympy.Basic]] = {
    **_EITHER,
    sympy.Lt: sympy.true,
    sympy.Ge: sympy.false,
}
_functions: Final[Any] = import_module("torch.utils._sympy.functions")


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
    for answer in (_where_none_is_least, _the_same_for_all):
        if (known := answer(self, expr)) is not None:
            return known
    found: sympy.Basic = _original(self, expr, *args, **options)
    return found


def _where_none_is_least(env: ShapeEnv, expr: Any) -> sympy.Basic | None:
    """The answer that all sizes but 1 share, where the least is 1: to ``1 % size != 0`` too."""
    if not isinstance(expr, Relational):
        return None
    found = (each for each in sympy.preorder_traversal(expr) if isinstance(each, _MADE))
    for size in found:
        if _is_least(env, size):
            other = sympy.Dummy(integer=True, positive=True)
            asked = expr.xreplace({size: other})
            return of_more_than_one(asked, other) if asked.free_symbols == {other} else None
    return None


def of_more_than_one(asked: Any, size: Any) -> sympy.Basic | None:
    """The answer to what is asked of one size, if it is that of all sizes from 2 on."""
    if not isinstance(asked, Relational) or not _is_settled(asked, size):
        return None
    return _answer(asked, size, (*range(2, _MOST), *range(_FAR - _MOST, _FAR)))


def _is_settled(asked: Any, size: Any) -> bool:
    """Whether no answer changes beyond some thousand sizes: ``size > 5000`` and ``== 5000`` do.

    The numbers that it is compared with, and divided by, are together no larger; or its ends tell.
    """
    if type(asked) in _LARGER and _is_even(asked, size):
        return True
    numbers: list[Any] = [each for each in sympy.preorder_traversal(asked) if each.is_Number]
    are_whole = all(each.is_Integer for each in numbers)
    return are_whole and math.prod(1 + abs(int(each)) for each in numbers) < _MOST


@lru_cache(maxsize=1024)  # each layer asks the same
def differs_at_1(asked: Any) -> bool:
    """Whether sizes of 1 alone are answered otherwise, as far as some others tell."""
    symbols = [*asked.free_symbols]
    if not isinstance(asked, Relational) or len(symbols) > _MOST_TOGETHER:
        return False
    try:
        answer = sympy.lambdify(symbols, asked, MODULES)
        usual, all_ = (
            {bool(answer(*sizes)) for sizes in itertools.product(tried, repeat=len(symbols))}
            for tried in (_SOME, (1, *_SOME))
        )
    except Exception:  # what stands in it, lambdify does not know
        return False
    return len(usual) == 1 and all_ != usual


_SOME: Final = (2, 3, 7, 64, 1000)
_MOST_TOGETHER: Final = 3


def _answer(asked: Any, size: Any, sizes: Iterable[int]) -> sympy.Basic | None:
    try:
        found = np.asarray(sympy.lambdify([size], asked, MODULES)(np.array([*sizes], object)))
    except Exception:  # what stands in it, lambdify does not know
        return None
    answers = {*map(bool, found.ravel())}
    return sympy.sympify(answers.pop()) if len(answers) == 1 else None


def _the_same_for_all(env: ShapeEnv, expr: Any) -> sympy.Basic | None:
    """The answer to what is asked of one size, if it is that of all sizes that it may have.

    torch proves little: not ``n - n // 2 >= 0``, which ``split`` asks. Of more than some thousand
    sizes the first and last are asked, and only which of two is larger that grow evenly:
    ``n == 6000`` and ``(n - 5000) * (n - 7000) < 0`` hold between.
    """
    symbols = expr.free_symbols
    if not isinstance(expr, Relational | BooleanFunction):
        return None  # a size alone is asked for its number
    if len(symbols) != 1 or not symbols <= env.backed_var_to_val.keys():
        return None
    if env._maybe_evaluate_static(expr) is not None:
        return None  # torch knows itself
    (size,) = symbols
    range_ = env.var_to_range[size]
    least = int(range_.lower)
    end = int(range_.upper) + 1 if range_.upper.is_Integer else _FAR
    if end - least > _MOST and (type(expr) not in _LARGER or not _is_even(expr, size)):
        return None
    near = range(least, min(end, least + _MOST))
    sizes = [*near, *range(max(near.stop, end - _MOST), end)]
    return _answer(expr, size, sizes)


def _is_even(expr: Any, size: Any) -> bool:
    """Whether what is compared grows with a size by so much for each, but for what is cut off."""
    apart = (expr.args[0] - expr.args[1]).replace(FloorDiv, lambda all_, by: all_ / by)
    return bool(apart.is_polynomial(size)) and sympy.degree(apart, size) <= 1


_ROUNDED: Final = (
    _functions.ToFloat, _functions.TruncToInt, _functions.FloorToInt, _functions.CeilToInt,
    _functions.RoundToInt,
)  # fmt: skip  # one table
"""By way of floats: ``math.ceil(1.25 * rows / 4)``."""

_MADE: Final = (FloorDiv, sympy.Add, sympy.Mul, sympy.Pow, *_ROUNDED)
_MOST: Final = 4096
_FAR: Final = 2**62
_LARGER: Final = (sympy.Gt, sympy.Ge, sympy.Lt, sympy.Le)
MODULES: Final[Any] = [
    {
        "FloorDiv": operator.floordiv, "Mod": operator.mod, "PythonMod": operator.mod,
        "CleanDiv": operator.floordiv, "CeilDiv": lambda size, step: -(-size // step),
        "LShift": operator.lshift, "RShift": operator.rshift, "PowByNatural": operator.pow,
        "BitwiseFn_bitwise_and": operator.and_, "BitwiseFn_bitwise_or": operator.or_,
        "BitwiseFn_bitwise_xor": operator.xor,
        "IntTrueDiv": operator.truediv, "FloatTrueDiv": operator.truediv,
        "FloatPow": operator.pow, "ToFloat": np.vectorize(float, [object]),
        "FloorToInt": np.vectorize(math.floor, [object]),
        "CeilToInt": np.vectorize(math.ceil, [object]),
        "TruncToInt": np.vectorize(math.trunc, [object]),
        "TruncToFloat": np.vectorize(lambda number: float(math.trunc(number)), [object]),
        "RoundToInt": np.vectorize(round, [object]),
        "RoundDecimal": np.vectorize(round, [object]),
        **{
            f"OpaqueUnaryFn_{name}": np.vectorize(getattr(math, name), [object])
            for name in (
                "sqrt", "exp", "log", "log2", "sin", "cos", "tan", "asin", "acos", "atan",
                "sinh", "cosh", "tanh", "asinh",
            )
        },
        "Identity": lambda size: size, "Where": np.where,
        "Max": lambda *sizes: reduce(np.maximum, sizes),
        "Min": lambda *sizes: reduce(np.minimum, sizes),
    },
    "numpy",
]  # fmt: skip  # one table
"""Of what lambdify computes questions with, in whole numbers."""


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
    if isinstance(size, _functions.FloatTrueDiv):
        over, under = size.args
        return bool(under.is_Float and under.is_positive) and _rises(over)
    if isinstance(size, sympy.Mul) and any(part.is_negative for part in size.args):
        return False
    made: Any = (*_ROUNDED, sympy.Add, sympy.Mul, _functions.Max)  # a stride is at least 1
    is_made = isinstance(size, made)
    return all(map(_rises, size.args)) if is_made else bool(size.is_Symbol or size.is_Number)
