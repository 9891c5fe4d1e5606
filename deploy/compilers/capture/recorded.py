"""One way through forward: what it asks of values is answered as by the example; sizes stay free.

For those whose branches no compiler keeps. What was answered stays in a ``.pt2`` as a condition,
which raises where an input would go another way than samples do.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, Final, NamedTuple
from unittest import mock

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
from edgeport.deploy.sources.running import as_tensors
from edgeport.deploy.sources.source import Source

from . import asked, harmless, listed, of_python, one_way, program, rows, truths, ways


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
        self.fixed.update(harmless.prune(self._source, found, inputs))
        return found

    def of_all(self, first: ExportedProgram) -> ExportedProgram | None:
        """One way that answers all samples, if there is one; it may be that of none of them.

        Each expert has rows in some sample, or its layers are recorded with none of them.
        What is computed without any rows, where a sample goes round it, changes nothing.
        """
        others = ways.others(self._source, first)
        if not others and not self._filling.is_possible:
            return first
        most = tuple(as_tensors(harmless.together(self._source)))
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
        _written_once(),
        asked.answered(numbers, filling),
        rows.known(filling),
        program.ready(),
        number_functions.known(),
        checks.known(),
        fallbacks.known(),
        of_python.known(),
    ):
        found = listed.kept(partial(_captured, capture))
    truths.kept_as_tensors(found)
    for tensor in _tensors(found):  # whoever takes the program apart is to know none of them
        tensor.real_tensor = None
        tensor.fake_mode.propagate_real_tensors = False
    return found


def _captured(capture: Callable[[], ExportedProgram]) -> ExportedProgram:
    try:
        with asked.without_numbers():
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


_ASSERT: Final[Any] = torch.ops.aten._assert_async.msg


@contextlib.contextmanager
def _written_once() -> Iterator[None]:
    """What writes into a tensor, ``x.sigmoid_()``, does so once to the values beside the symbols.

    Torch runs it with them, and then runs what it is made of with what came out (2.13).
    """
    own: Any = FakeTensorMode.dispatch
    within: list[Any] = []

    def dispatched(mode: Any, function: Any, *given: Any) -> Any:
        if within or function is _ASSERT:  # what is filled up, the example fails
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
