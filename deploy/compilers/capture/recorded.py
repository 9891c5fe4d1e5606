"""One way through forward: what it asks of values is answered as by the example; sizes stay free.

For those whose branches no compiler keeps. What was answered stays in a ``.pt2`` as a condition,
which raises where an input would go another way than samples do.
"""

import contextlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import meta_utils
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from edgeport.deploy.compilers.operators import (
    checks,
    conversions,
    fallbacks,
    number_functions,
    quotients,
)
from edgeport.deploy.compilers.operators.fx_nodes import parts
from edgeport.deploy.compilers.stored import Compiled
from edgeport.deploy.diagnosis.places import Line
from edgeport.deploy.diagnosis.telling import only_tells
from edgeport.deploy.sources.drawing import cut_or_repeated
from edgeport.deploy.sources.running import as_tensors
from edgeport.deploy.sources.samples import rows_of
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.run_failures import ANOTHER_WAY

from . import one_way, program, rows, texts, truths, ways


class Recorded(NamedTuple):
    """What was recorded.

    Attributes:
        program: One way through forward, or several, and its conditions.
        fixed: The lines of the module that make a number of Python's, which is that of the
            example, though other samples have others there.
        taken: The lines that make a whole number, of which it has those that samples have.
        apart: Why it is one way alone, where samples take others.
    """

    program: ExportedProgram
    fixed: tuple[str, ...]
    taken: tuple[str, ...]
    apart: str | None

    def noted(self, compiled: Compiled) -> Compiled:
        """What was made of it, with what the user is told of."""
        return replace(compiled, fixed=self.fixed, taken=self.taken, apart=self.apart)


def with_values(source: Source) -> Recorded:
    """Run forward on the example beside its symbols, as torch does for a draft of a program.

    Where samples take other ways, these are recorded too.

    Args:
        source: What to capture.

    Raises:
        Exception: Whatever torch.export raises.
    """
    recorder = _Recorder(source)
    first = recorder.record(source.roomy_tensors())
    found, apart = recorder.of_all(first), None
    if found is None:
        found, apart = _joined(source, first, recorder.record)
    graphs = [part.graph for part in parts(found.graph_module)]
    asserted = [node for graph in graphs for node in one_way.conditions(graph)]
    taken = one_way.numbers(filter(one_way.may_turn, asserted))
    return Recorded(found, recorder.lines(recorder.fixed), recorder.lines(taken), apart)


class _Recorder:
    """Records ways.

    Args:
        source: Of what.

    Attributes:
        fixed: The places of numbers that may be others than those that were recorded.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._numbers: list[str] = []
        self._filling = rows.Filling()
        self.fixed: set[int] = set()

    def record(self, inputs: tuple[Tensor, ...]) -> ExportedProgram:
        """The way of these inputs, without the conditions that change nothing."""
        from .special_sizes import with_or_without  # loads sympy

        recorded = partial(_with_values, self._source, inputs, self._numbers, self._filling)
        found = with_or_without(recorded, self._source)
        self.fixed.update(one_way.prune(self._source, found))
        return found

    def of_all(self, first: ExportedProgram) -> ExportedProgram | None:
        """One way that answers all samples, if there is one; it may be that of none of them.

        Each expert has rows in some sample, or its layers are recorded with none of them.
        What is computed without any rows, where a sample goes round it, changes nothing.
        """
        others = ways.others(self._source, first)
        if not others and not self._filling.is_possible:
            return first
        most = tuple(as_tensors(_together(self._source)))
        of_first, self.fixed = self.fixed, set()
        for is_filled in (True, False):
            if not (self._filling.is_possible if is_filled else others):
                continue
            self._filling.is_on = is_filled
            with contextlib.suppress(Exception):  # torch raises anything
                found = self.record(most)
                if not ways.others(self._source, found):
                    return found
        self._filling.is_on = False
        self.fixed = of_first
        return None if others else first

    def lines(self, places: set[int]) -> tuple[str, ...]:
        """Where numbers are made."""
        return tuple(dict.fromkeys(self._numbers[place] for place in sorted(places)))


def _together(source: Source) -> dict[str, Array]:
    """The rows of all samples in one, of the sizes of the largest; that alone, if none has rows."""
    largest = max(source.samples, key=lambda each: sum(map(np.size, each.inputs.values()))).inputs
    samples = [each.inputs for each in source.samples if all(map(np.size, each.inputs.values()))]
    rows = rows_of(source.signature)
    if rows is None or not samples:
        return dict(largest)
    found: dict[str, Array] = {}
    for name, array in largest.items():
        sizes = dict(enumerate(array.shape[1:], 1))
        found[name] = np.concatenate([cut_or_repeated(each[name], sizes) for each in samples])
    count = len(next(iter(found.values())))
    return found if count in source.signature.range_of(rows) else dict(largest)


def _joined(
    source: Source, first: ExportedProgram, record: ways.Record
) -> tuple[ExportedProgram, str | None]:
    """The ways of samples in one program; or the first alone, which the proof refuses, and why."""
    try:
        return ways.with_others(source, first, record), None
    except NotImplementedError as e:
        return first, str(e)
    except Exception as e:  # torch raises anything
        problem, *_ = str(e).splitlines() or [""]
        return first, f"torch cannot join their ways ({type(e).__name__}: {problem})"


def _with_values(
    source: Source, inputs: tuple[Tensor, ...], numbers: list[str], filling: rows.Filling
) -> ExportedProgram:
    config: Any = import_module("torch._functorch.config")
    capture = partial(program.exported, source, source.flat, inputs)
    with (
        config.patch(fake_tensor_propagate_real_tensors=True),
        mock.patch.object(FakeTensorMode, _COMPARE, _not_compared),
        mock.patch.object(meta_utils, "_safe_copy", _copied),
        mock.patch.object(torch.SymInt, "__format__", _formatted),
        mock.patch.object(torch.SymFloat, "__format__", _formatted),
        mock.patch.object(torch.SymFloat, "__floordiv__", _floor_divided),
        mock.patch.object(torch.SymFloat, "__bool__", _is_not_0),
        mock.patch.object(torch.SymBool, "__eq__", _is_equal),
        mock.patch.object(torch.SymInt, "__hash__", _hashed),
        _written_once(),
        _some_chosen(),
        _answers_kept(numbers, filling),
        rows.known(filling),
        program.ready(),
        number_functions.known(),
        checks.known(),
        fallbacks.known(),
    ):
        found = _captured(capture)
    truths.kept_as_tensors(found)
    for tensor in _tensors(found):  # whoever takes the program apart is to know none of them
        tensor.real_tensor = None
        tensor.fake_mode.propagate_real_tensors = False
    return found


def _captured(capture: Callable[[], ExportedProgram]) -> ExportedProgram:
    try:
        with _no_numbers():
            return _kept(capture)
    except quotients.LostSizeError as e:
        with contextlib.suppress(Exception):  # what can follow the value is to follow it
            return conversions.kept(e, capture)
    return _kept(capture)


def _kept(capture: Callable[[], ExportedProgram]) -> ExportedProgram:
    try:
        return capture()
    except quotients.LostSizeError as e:
        return conversions.kept(e, capture)


def _tensors(captured: ExportedProgram) -> Iterator[FakeTensor]:
    for part in captured.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            leaves = pytree.tree_leaves(node.meta.get("val"))
            yield from (leaf for leaf in leaves if isinstance(leaf, FakeTensor))


def _copied(to: Tensor, given: Tensor | None) -> None:
    """Torch does not copy weights, which are no ``Tensor`` by type: any values stand for theirs."""
    if type(given) is Tensor or isinstance(given, nn.Parameter):
        to.copy_(given)
    elif given is not None:
        raise TypeError(f"what is recorded takes no {type(given).__name__}")


_COMPARE: Final = "_maybe_infer_fake_kernel_from_pytree_out"


def _not_compared(mode: Any, function: Any, given: Any, real_given: Any, fake: Any, _: Any) -> Any:
    """Torch compares strides with those of the example, and so fixes what they are made of."""
    return fake


@contextlib.contextmanager
def _written_once() -> Iterator[None]:
    """What writes into a tensor, ``x.sigmoid_()``, does so once to the values beside the symbols.

    Torch runs it with them, and then runs what it is made of with what came out (2.13).
    """
    own: Any = FakeTensorMode.dispatch
    within: list[Any] = []

    def dispatched(mode: Any, function: Any, *given: Any) -> Any:
        if within or function is _assert:  # what is filled up, the example fails
            with mock.patch.object(mode, "propagate_real_tensors", False):
                return own(mode, function, *given)
        if not function._schema.is_mutable:
            return own(mode, function, *given)
        within.append(function)
        try:
            return own(mode, function, *given)
        finally:
            within.pop()

    with mock.patch.object(FakeTensorMode, "dispatch", dispatched):
        yield


@contextlib.contextmanager
def _some_chosen() -> Iterator[None]:
    """Rows that are chosen, ``if rows.numel() == 0: continue``, are taken to be some.

    What is computed with none of them is then in the file too, whatever the example has. What
    forward asks, and one row answers otherwise than two, is as with the example.
    """
    from torch.fx.experimental.symbolic_shapes import ShapeEnv  # loads sympy

    own: Any = ShapeEnv._evaluate_expr

    def evaluated(env: ShapeEnv, expr: Any, *args: Any, **options: Any) -> Any:
        answer, is_of_one = _of_some(env, expr)
        if answer is None or not (is_of_one or not _is_asked_in_forward()):
            return own(env, expr, *args, **options)
        return answer

    with mock.patch.object(ShapeEnv, "_evaluate_expr", evaluated):
        yield


def _of_some(env: Any, expr: Any) -> tuple[Any, bool]:
    """What is answered alike of all counts from 2 on, if it is; and whether of 1 too."""
    from .special_sizes import of_more_than_one  # loads sympy

    symbols = expr.free_symbols
    is_count = len(symbols) == 1 and symbols <= env.size_like
    answer = of_more_than_one(expr, *symbols) if is_count else None
    return answer, answer is not None and expr.subs(*symbols, 1) == answer


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
        asker = _asker(sys._getframe(1)) if free_unbacked_symbols(node.expr) else None
        if asker is None or _of_some(node.shape_env, node.expr)[1]:
            return own(node, file, line)
        users = _of_user(asker)
        place = Line(users.f_code.co_filename, users.f_lineno)
        asked = symbol(node)
        if only_tells(place):
            return _of_example(asked)
        held, answer = _as_tensor(asked), _of_example(asked)
        if symbol is torch.SymFloat:
            _assert(held.isfinite() == math.isfinite(answer), ANOTHER_WAY)
        if symbol is torch.SymBool:
            some = _of_any(node.expr)
            filling.is_possible |= some not in (None, answer)
            answer = some if filling.is_on and some is not None else answer
            _assert(held == int(answer), ANOTHER_WAY)
            return answer
        if not math.isnan(answer):
            _assert(_is_same(held, answer), f"{one_way.NUMBER}{len(numbers)}")
            numbers.append(str(place))
        return answer

    return guard


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


_full: Callable[..., Tensor] = torch.full
_choose: Any = torch.sym_ite  # these have no types
_assert: Any = torch.ops.aten._assert_async.msg


@contextlib.contextmanager
def _no_numbers() -> Iterator[None]:
    """Say where Python makes a number of a value in forward, as by ``float(x.max())``.

    Raises:
        LostSizeError: There.
    """
    node: Any = import_module("torch.fx.experimental.sym_node").SymNode  # loads sympy
    with contextlib.ExitStack() as stack:
        for name in ("guard_int", "guard_float"):
            stack.enter_context(mock.patch.object(node, name, _guarding(getattr(node, name))))
        yield


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


def _is_asked_in_forward() -> bool:
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_name != "guard_bool":
        frame = frame.f_back
    return frame is not None and _asker(frame.f_back) is not None


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
