"""Samples of sizes at which forward takes another way than with the example.

``if time % 6 == 0`` is a branch that whoever records one run loses, and the sizes that are tried
anyway, 1, 2, 7 and 32, may all miss it. A trace computes what such a branch asks from the sizes,
and so tells for any of them which way it goes. Behind the branch may be others: what goes another
way is traced in its turn, and asked for what parts behind it (the generational search of Godefroid,
Levin and Molnar, "Automated whitebox fuzz testing", NDSS 2008).
"""

import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final
from unittest import mock

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.samples import (
    Sample,
    cells,
    elements_of,
    sample_at,
    sizes_of,
    usual_sizes,
)
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Signature
from edgeport.runtimes.inputs import Array

_MOST_SIZES: Final = 64
"""Of one dimension, from the smallest on."""

_MOST_UNASKED: Final = 512
"""Where no largest is declared."""

_MOST_ELEMENTS: Final = 2**20
"""Of one set of inputs, or four times the example's."""

_MOST_SAMPLES: Final = 8

_PATIENCE_S: Final = 5.0
"""Wall time: to learn a size in the middle of a large network takes all that is before it."""


def turned(source: Source) -> list[Sample]:
    """A sample for each question that sizes answer otherwise than the example, as far as found.

    Sizes that the module itself rejects, and those that are tried anyway, are left out. There are
    none of a module that torch.jit does not trace.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(islice(_turned(source), _MOST_SAMPLES))


class _Questions(nn.Module):
    """What a module asks on its way, in place of what it answers."""

    def __init__(self, flat: Flat) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with _Asked() as asked:
            self.flat(*inputs)
        return (torch.zeros(()), *(question.clone() for question in asked.questions))


_READS: Final = (torch.Tensor.__int__, torch.Tensor.__index__)
_RESTS: Final = (torch.Tensor.__mod__, torch.Tensor.remainder, torch.remainder)
"""Where nothing is missing to a multiple, what fills up does nothing."""


class _Asked(TorchFunctionMode):
    """Keeps what is asked whether it is true, or which whole number it is."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[torch.Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.__bool__:
            self.questions.append(args[0].bool())
        elif func in _READS:
            self.questions.append(args[0])
        found = func(*args, **(kwargs or {}))
        if func in _RESTS and not (found.dim() or found.is_floating_point()):
            self.questions.append((found == 0).long())
        return found


def _turned(source: Source) -> Iterator[Sample]:
    tried = [sizes_of(source.signature, sample.inputs) for sample in source.samples]
    end = time.perf_counter() + _PATIENCE_S
    own = elements_of(source.signature, usual_sizes(source.signature))
    most = max(4 * own, _MOST_ELEMENTS)
    ways = deque([(source.example, 0)])
    while ways and time.perf_counter() < end:
        inputs, first = ways.popleft()
        try:
            recorded = _recorded(source, inputs)
            usual = _answers(recorded, inputs)
        except Exception:  # torch.jit raises anything, here of the way that some size goes
            continue
        left = set(range(first, len(usual)))
        named = [each for value in _constants(recorded) for each in (value - 1, value, value + 1)]
        for number, sizes in enumerate(_sizes(source.signature, named)):
            if not left or time.perf_counter() > end:
                break
            if elements_of(source.signature, sizes) > most or cells(sizes) > source.most_cells:
                continue
            try:
                sample = sample_at(source.signature, sizes, source.values, number)
                found = left & _apart(_answers(recorded, sample.inputs), usual)
                if found and sizes not in tried:
                    run_module(source.flat, sample.inputs)
            except Exception:  # the module, or what was recorded of it, rejects a size
                continue
            if found:  # what parts before was found there, and goes a way of its own
                left -= found
                ways.append((sample.inputs, max(found) + 1))
                if sizes not in tried:
                    tried.append(sizes)
                    yield sample


def _recorded(source: Source, inputs: Mapping[str, Array]) -> Any:
    given = tuple(map(torch.tensor, inputs.values()))
    questions = _Questions(source.flat)
    with mock.patch.object(torch.jit, "is_tracing", _is_not_tracing):
        return torch.jit.trace(questions, given, check_trace=False)  # type: ignore[no-untyped-call]  # torch.jit has no types


def _is_not_tracing() -> bool:
    """What eager asks counts: ``if not torch.jit.is_tracing() and rows * columns == 196:``."""
    return False


def _apart(answers: Sequence[float], usual: Sequence[float]) -> set[int]:
    """Places up to the first branch that parts; a number that is read parts at nearly any size."""
    found = set()
    for place, (answer, expected) in enumerate(zip(answers, usual, strict=True)):
        if answer != expected:
            found.add(place)
            if isinstance(answer, bool):
                break
    return found


def _constants(recorded: Any) -> set[int]:
    """Whole numbers that sizes are compared with: ``time == 2048``."""
    graph = recorded.inlined_graph  # its nodes live as long
    values = [node.output().toIValue() for node in graph.findAllNodes("prim::Constant")]
    return {value for value in values if type(value) is int and value > _MOST_SIZES}


def _answers(recorded: Any, inputs: Mapping[str, Array]) -> list[float]:
    return [answer.item() for answer in recorded(*map(torch.tensor, inputs.values()))[1:]]


def _sizes(declared: Signature, named: Sequence[int]) -> Iterator[dict[str, int]]:
    """Each dimension alone at its smaller sizes, others and its largest; then equal ones."""
    usual = usual_sizes(declared)
    allowed: dict[str, list[int]] = {}
    for name in usual:
        range_ = declared.range_of(name)
        steps = range(range_.nearest(range_.min), range_.max or 2**62, range_.step)
        most = range_.max or _MOST_UNASKED
        larger = [size for size in named if size in range_ and size <= most]
        larger += [] if range_.max is None else [range_.max]
        allowed[name] = [*steps[:_MOST_SIZES], *larger]
    for name, sizes in allowed.items():
        yield from (usual | {name: size} for size in sizes)
    leading = {spec.shape[0] for spec in declared.inputs if spec.shape}
    rows = {name: max(1, sizes[0]) for name, sizes in allowed.items() if name in leading}
    besides: list[dict[str, int]] = [{}, rows] if rows else [{}]
    for few in besides:  # of many large images there is no room for all
        alike = {name: {*sizes} for name, sizes in allowed.items() if name not in few}
        if len(alike) > 1:
            common: set[int] = set.intersection(*alike.values())
            for size in sorted(common)[:_MOST_SIZES]:
                yield usual | few | dict.fromkeys(alike, size)
