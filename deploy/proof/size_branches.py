"""Samples of sizes at which forward takes another way than with the example.

``if time % 6 == 0`` is a branch that whoever records one run loses, and the sizes that are tried
anyway, 1, 2, 7 and 32, may all miss it. A trace computes what such a branch asks from the sizes,
and so tells for any of them which way it goes.
"""

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.samples import (
    Sample,
    elements_of,
    sample_at,
    sizes_of,
    usual_sizes,
)
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Signature

_MOST_SIZES: Final = 64
"""Of one dimension, from the smallest on."""

_MOST_UNASKED: Final = 512
"""Where no largest is declared."""

_MOST_ELEMENTS: Final = 2**20
"""Of one set of inputs, or four times the example's."""

_MOST_SAMPLES: Final = 4

_PATIENCE_S: Final = 5.0
"""Wall time: to learn a size in the middle of a large network takes all that is before it."""


def turned(source: Source) -> list[Sample]:
    """A sample for each question that sizes answer otherwise than the example, as far as found.

    Sizes that the module itself rejects, and those that are tried anyway, are left out.

    Raises:
        Exception: Whatever the module, or torch.jit, raises.
    """
    if not source.signature.dimensions:
        return []
    example = source.example_tensors()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recorded: Any = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch.jit has no types
            _Questions(source.flat), example, check_trace=False
        )
        return list(_turned(source, recorded, _answers(recorded, example)))


class _Questions(nn.Module):
    """What a module asks on its way, in place of what it answers."""

    def __init__(self, flat: Flat) -> None:
        super().__init__()
        self.flat = flat

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with _Asked() as asked:
            self.flat(*inputs)
        return (torch.zeros(()), *(question.clone() for question in asked.questions))


class _Asked(TorchFunctionMode):
    """Keeps what is asked whether it is true."""

    def __init__(self) -> None:
        super().__init__()
        self.questions: list[torch.Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.Tensor.__bool__:
            self.questions.append(args[0])
        return func(*args, **(kwargs or {}))


def _turned(source: Source, recorded: Any, usual: Sequence[bool]) -> Iterator[Sample]:
    left = set(range(len(usual)))
    tried = [sizes_of(source.signature, sample.inputs) for sample in source.samples]
    end = time.perf_counter() + _PATIENCE_S
    found = 0
    own = elements_of(source.signature, usual_sizes(source.signature))
    most = max(4 * own, _MOST_ELEMENTS)
    named = [each for value in _constants(recorded) for each in (value - 1, value, value + 1)]
    for number, sizes in enumerate(_sizes(source.signature, named)):
        if not left or found == _MOST_SAMPLES or time.perf_counter() > end:
            return
        if elements_of(source.signature, sizes) > most:
            continue
        try:
            sample = sample_at(source.signature, sizes, source.values, number)
            answers = _answers(recorded, map(torch.tensor, sample.inputs.values()))
            other = {place for place in left if answers[place] != usual[place]}
            if other and sizes not in tried:
                run_module(source.flat, sample.inputs)
        except Exception:  # whatever the module, or what was recorded of it, rejects a size with
            continue
        left -= other
        if other and sizes not in tried:
            found += 1
            yield sample


def _constants(recorded: Any) -> set[int]:
    """Whole numbers that sizes are compared with: ``time == 2048``."""
    graph = recorded.inlined_graph  # its nodes live as long
    values = [node.output().toIValue() for node in graph.findAllNodes("prim::Constant")]
    return {value for value in values if type(value) is int and value > _MOST_SIZES}


def _answers(recorded: Any, inputs: Iterable[torch.Tensor]) -> list[bool]:
    return [bool(answer) for answer in recorded(*inputs)[1:]]


def _sizes(declared: Signature, named: Sequence[int]) -> Iterator[dict[str, int]]:
    """Each dimension alone at its smaller sizes, others and its largest, then all of one size."""
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
    common: set[int] = set.intersection(*map(set, allowed.values()))
    yield from (usual | dict.fromkeys(usual, size) for size in sorted(common)[:_MOST_SIZES])
