"""What a program asserts of values and changes nothing where it fails is dropped, as tried.

An expert without rows adds nothing, and a mask that hides nothing is none. What no sample fails
stays, as does what may have been hidden by another condition that failed beside it.
"""

import contextlib
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from edgeport.deploy.compilers.operators import fx_nodes
from edgeport.deploy.diagnosis.decisions import Places
from edgeport.deploy.diagnosis.turns import Turns
from edgeport.deploy.sources.drawing import cut_or_repeated
from edgeport.deploy.sources.running import as_tensors, run_module, run_on
from edgeport.deploy.sources.samples import rows_of, sizes_of
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.inputs import Array

from . import one_way


def prune(source: Source, captured: ExportedProgram, inputs: Sequence[Tensor]) -> set[int]:
    """Drop, in place, what samples fail, where the program still answers as the module does.

    It has to near one of them too: of zeros alone most ways answer the same.

    Args:
        source: Of what.
        captured: The program.
        inputs: It is their way.

    Returns:
        The places of numbers that may be others than the example has.
    """
    graph = captured.graph_module.graph
    _drop_fixed(captured)
    asserted = one_way.conditions(graph)
    asked = one_way.of_values(captured)
    if not asked:
        return set()
    of_forward = {place for place, node in enumerate(asserted) if one_way.is_of_forward(node)}
    of_some = {place for place in asked if asserted[place].args[-1] in _OF_SOME}
    read = _read(source, inputs)
    tried = _Tried(source, one_way.runnable(captured), asked, of_forward, of_some, read)
    dropped = [asserted[place] for place in tried.harmless()]
    fixed = one_way.numbers(dropped)
    for node in dropped:
        graph.erase_node(node)
    graph.eliminate_dead_code()
    captured.graph_module.recompile()
    return fixed


_OF_SOME: Final = (one_way.ROWS, one_way.SOME)


class _Tried:
    """What fails of inputs, and whether the answer is right nevertheless.

    Args:
        source: Whose samples are tried, and what is near them.
        module: Runs the program.
        asked: The places of conditions that inputs may fail.
        of_forward: Those that forward asks; what else failed follows from that.
        of_some: Those that ask whether there is something, of which what is near samples tells
            enough.
        read: Where forward reads values on the way of the program.
    """

    def __init__(
        self,
        source: Source,
        module: GraphModule,
        asked: set[int],
        of_forward: set[int],
        of_some: set[int],
        read: Set[Any],
    ) -> None:
        self._source = source
        self._read = read
        self._module = module
        self._asked = asked
        self._of_forward = of_forward
        self._of_some = of_some
        self._right: list[set[int]] = []
        self._wrong: list[set[int]] = []
        failing: dict[frozenset[int], list[Mapping[str, Array]]] = defaultdict(list)
        for sample in source.samples:
            if own := frozenset(one_way.answer(module, sample.inputs)[0] & asked):
                failing[own].append(sample.inputs)
        self._known = of_some.union(*failing)
        for own, given in failing.items():
            one = max(given, key=partial(roominess, source))
            others = itertools.chain(_beside(one, source), _near(one, source.example))
            is_known = own <= of_some and own <= self.harmless()
            for inputs in itertools.chain(given, () if is_known else others):
                if self._try(inputs) == own:
                    break

    def _try(self, inputs: Mapping[str, Array]) -> frozenset[int] | None:
        """Note what inputs tell.

        Returns:
            What they fail, if the answer is wrong by that.
        """
        places, answers = one_way.answer(self._module, inputs)
        failed = places & self._asked
        if not failed or not failed <= self._known:
            return None
        is_right = _is_right(self._source, inputs, answers)
        if is_right and self._asks_other(inputs, failed):
            is_right = False
        if is_right:
            self._right.append(failed)
        elif is_right is not None:
            self._wrong.append(failed)
            return frozenset(failed)
        return None

    def _asks_other(self, inputs: Mapping[str, Array], failed: set[int]) -> bool:
        """Whether others may go a third way, which no sample shows: ``if 30 < x and x < 60:``.

        Either their way asks of values what the program does not, or what failed is more than one
        condition, of which their way may have asked the first alone.
        """
        own = _read(self._source, as_tensors(inputs))
        is_one = len(failed & self._of_forward) < 2
        return not own <= self._read or not (is_one or self._read <= own)

    def harmless(self) -> set[int]:
        """What changes nothing where it fails: alone, or beside what changes nothing either.

        Where two fail, one may hide what the other would change. What always fails together is one:
        the same mask, asked in each layer. Of a hundred experts one is never without rows alone: it
        is enough there that nothing else failed each time.
        """
        seen = (*self._right, *self._wrong)
        found: set[int] = set()

        def is_harmless(failed: set[int]) -> bool:
            new = (failed - found) & self._of_forward
            together = {tuple(place in each for each in seen) for place in new}
            return len(together) < 2 and not any(each <= found | failed for each in self._wrong)

        failing = ([each for each in self._right if p in each] for p in sorted(self._of_some))
        each_time = [set.intersection(*failed) for failed in failing if failed]
        left = sorted((*self._right, *each_time), key=len)
        while (failed := next(filter(is_harmless, left), None)) is not None:
            found |= failed
            left.remove(failed)
        return found


def _read(source: Source, inputs: Sequence[Tensor]) -> Set[Any]:
    """Where forward reads truths and numbers of these inputs, and turns by them."""
    turns = Turns()
    places = Places(turns)
    with contextlib.suppress(Exception), turns, places:  # the user's module may raise anything
        run_on(source.flat, [each.clone() for each in inputs])
    return {*places.seen, *turns.seen()}


def _drop_fixed(captured: ExportedProgram) -> None:
    """Drop what hangs on constants alone: the norm of a weight is rounded otherwise by engines."""
    graph = captured.graph_module.graph
    signature = captured.graph_signature
    fixed = {*signature.inputs_to_parameters, *signature.inputs_to_lifted_tensor_constants}
    varying: set[Node] = set()
    for node in graph.nodes:
        is_given = node.op == "placeholder" and node.name not in fixed
        if is_given or fx_nodes.is_drawn(node) or not varying.isdisjoint(node.all_input_nodes):
            varying.add(node)
        elif node.target in one_way.ASSERTIONS and isinstance(node.args[0], Node):
            graph.erase_node(node)
    captured.graph_module.recompile()


def _is_right(
    source: Source, inputs: Mapping[str, Array], answers: Sequence[Any] | None
) -> bool | None:
    """Whether the module answers the same; ``None``: both raise, as of what is not invertible."""
    try:
        expected = [*map(torch.as_tensor, run_module(source.flat, inputs))]
    except Exception:  # the user's module may raise anything
        return None if answers is None else False
    if answers is None:
        return False
    return len(expected) == len(answers) and all(
        is_close(*pair, _ROUNDED) for pair in zip(expected, answers, strict=True)
    )


def is_close(expected: Tensor, answer: Tensor, digits: float) -> bool:
    """Whether rounding alone may be between them: so many last digits of the largest value."""
    if expected.shape != answer.shape or expected.dtype != answer.dtype:
        return False
    if not expected.is_floating_point():
        return torch.equal(expected, answer)
    finite = expected[expected.isfinite()].abs()
    error = digits * torch.finfo(expected.dtype).eps * finite.max() if finite.numel() else 0.0
    return torch.allclose(answer, expected, rtol=0.0, atol=float(error), equal_nan=True)


_ROUNDED: Final = 16
"""A batch norm that was not trained is further off."""


def roominess(source: Source, inputs: Mapping[str, Array]) -> tuple[int, int]:
    """How much inputs tell by their sizes: 1 may be special, and equal ones may be one."""
    sizes = sizes_of(source.signature, inputs).values()
    return min([2, *sizes]), len({*sizes})


def _beside(inputs: Mapping[str, Array], source: Source) -> Iterator[dict[str, Array]]:
    """Its rows and those of the example in one, either first: ``if (x < 0).any():`` asks all."""
    rows = rows_of(source.signature)
    if rows is None or not all(each.size for each in source.example.values()):
        return
    pairs: dict[str, tuple[Array, Array]] = {}
    for name, array in inputs.items():
        sizes = dict(enumerate(array.shape[1:], 1))
        pairs[name] = (array, cut_or_repeated(source.example[name], sizes))
    together = sum(len(each) for each in next(iter(pairs.values())))
    if together in source.signature.range_of(rows):
        for order in (1, -1):
            yield {name: np.concatenate(pair[::order]) for name, pair in pairs.items()}


def _near(inputs: Mapping[str, Array], example: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Others, of which some go the same way: all inputs moved, or the floats alone."""
    draw = np.random.default_rng(0)
    has_others = any(array.dtype.kind != "f" for array in inputs.values())
    for far, way, are_floats in itertools.product(_FAR, _WAYS, (True, False)[: 1 + has_others]):
        yield {
            name: array
            if are_floats and array.dtype.kind != "f"
            else _moved(array, example[name], far, way, draw)
            for name, array in inputs.items()
        }


_FAR: Final = (1e-4, 1e-2, 0.1, 1.0, 1e3, 1e6)
"""Of the largest value of the example; far off, bounds show that change nothing near it."""

_WAYS: Final[tuple[Callable[[Any], Any], ...]] = (
    lambda moves: moves,
    np.abs,
    lambda moves: -np.abs(moves),
    np.ones_like,
    lambda moves: -np.ones_like(moves),
    lambda moves: np.round(8 * (moves - np.flip(moves))),  # their sum is 0, without rounding
)


def _moved(
    array: Array, like: Array, far: float, way: Callable[[Any], Any], draw: np.random.Generator
) -> Array:
    if not like.size:
        return array
    if array.dtype.kind != "f":
        is_moved = draw.random(array.shape) < draw.random()
        return np.where(is_moved, draw.choice(like.ravel(), array.shape), array).astype(array.dtype)
    most = float(np.abs(like[np.isfinite(like)]).max(initial=0.0)) or 1.0
    step = 2.0 ** round(math.log2(far * most))
    with np.errstate(over="ignore"):
        moved: Array = (array + step * way(draw.uniform(-1.0, 1.0, array.shape))).astype(
            array.dtype
        )
    return moved


def together(source: Source) -> dict[str, Array]:
    """The rows of all samples in one, of the sizes of the largest; that alone, if none has rows."""
    largest = max(source.samples, key=lambda each: sum(map(np.size, each.inputs.values()))).inputs
    samples = [each.inputs for each in source.samples if all(map(np.size, each.inputs.values()))]
    name_of_rows = rows_of(source.signature)
    if name_of_rows is None or not samples:
        return dict(largest)
    found: dict[str, Array] = {}
    for name, array in largest.items():
        sizes = dict(enumerate(array.shape[1:], 1))
        found[name] = np.concatenate([cut_or_repeated(each[name], sizes) for each in samples])
    count = len(next(iter(found.values())))
    return found if count in source.signature.range_of(name_of_rows) else dict(largest)
