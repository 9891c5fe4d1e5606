"""For which sizes an engine is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeport.deploy.sources.source import Source
from edgeport.runtimes import TensorSpec
from edgeport.runtimes.tensorrt.order import Bounds, Sizes


@dataclass(frozen=True, slots=True)
class Extent:
    """The sizes of one free dimension, as an engine takes them.

    Attributes:
        open: Whether the signature sets no end; then it is the largest that was proved.
    """

    min: int
    opt: int
    max: int
    open: bool

    def __str__(self) -> str:
        return f"{self.min}..{self.max} (best at {self.opt})"


def extents(source: Source) -> dict[str, Extent]:
    """The sizes of every free dimension: those of the signature, tuned for the example's."""
    declared = source.signature
    tried = _sizes(source)
    found = {}
    for name in declared.dimensions:
        range_ = declared.range_of(name)
        largest = max(tried[name]) if range_.max is None else range_.max
        opt = range_.opt if range_.opt is not None else _example_size(source, name)
        found[name] = Extent(range_.min, min(opt, largest), largest, open=range_.max is None)
    return found


def shapes(source: Source, sizes: Mapping[str, Extent]) -> dict[str, Bounds]:
    """Of each input with a free dimension."""
    return {
        spec.name: Bounds(
            _at(spec, lambda name: sizes[name].min),
            _at(spec, lambda name: sizes[name].opt),
            _at(spec, lambda name: sizes[name].max),
        )
        for spec in source.signature.inputs
        if any(isinstance(size, str) for size in spec.shape)
    }


_MOST_VALUES: Final = 64
"""TensorRT takes no larger shape tensors."""


def values(source: Source) -> dict[str, Bounds]:
    """Of each small input of integers: what its elements were in the samples."""
    found = {}
    for spec in source.signature.inputs:
        if spec.dtype in ("int32", "int64") and all(isinstance(size, int) for size in spec.shape):
            seen = [sample.inputs[spec.name].reshape(-1) for sample in source.samples]
            if seen and seen[0].size <= _MOST_VALUES:
                low, high = np.min(seen, axis=0), np.max(seen, axis=0)
                opt = source.example[spec.name].reshape(-1)
                found[spec.name] = Bounds(_ints(low), _ints(np.clip(opt, low, high)), _ints(high))
    return found


def notes(format_: str, sizes: Mapping[str, Extent], shaping: Mapping[str, Bounds]) -> list[str]:
    """What the user should know of the sizes, in sentences."""
    told = [
        f"{format_}: {name!r} has no end, and an engine needs one: it takes up to {extent.max}, "
        f"the largest that was proved; a range sets another: {name}:1..{2 * extent.max}"
        for name, extent in sizes.items()
        if extent.open
    ]
    return told + [
        f"{format_}: the values of {name!r} are sizes, and an engine needs their ends: it takes "
        f"{list(bounds.min)} to {list(bounds.max)}, which the samples have"
        for name, bounds in shaping.items()
    ]


def _sizes(source: Source) -> dict[str, set[int]]:
    """What each free dimension was in the samples and the example."""
    found: dict[str, set[int]] = {}
    for inputs in (source.example, *(sample.inputs for sample in source.samples)):
        for spec in source.signature.inputs:
            for axis, name in enumerate(spec.shape):
                if isinstance(name, str):
                    found.setdefault(name, set()).add(inputs[spec.name].shape[axis])
    return found


def _example_size(source: Source, name: str) -> int:
    """The size in the user's own first sample, if there is one, else in the example."""
    inputs = source.real[0] if source.real else source.example
    return next(
        int(inputs[spec.name].shape[axis])
        for spec in source.signature.inputs
        for axis, each in enumerate(spec.shape)
        if each == name
    )


def _at(spec: TensorSpec, choose: Callable[[str], int]) -> Sizes:
    return tuple(size if isinstance(size, int) else choose(size) for size in spec.shape)


def _ints(array: "np.ndarray[tuple[int, ...], np.dtype[np.integer]]") -> Sizes:
    return tuple(int(each) for each in array)
