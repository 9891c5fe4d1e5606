"""For which sizes an engine is built: the signature's, and where it has no end, the samples'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import Signature, TensorSpec
from edgeport.runtimes.sizes import size_at

from .order import Bounds, Sizes

_MOST_VALUES: Final = 64
"""TensorRT takes no larger shape tensors."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The sizes of one free dimension, as an engine takes them.

    Attributes:
        open: Whether the signature sets no end; then it is the largest of the samples.
        step: Of the range; each of the sizes is a multiple.
    """

    min: int
    opt: int
    max: int
    open: bool
    step: int = 1

    def __str__(self) -> str:
        return f"{self.min}..{self.max} (best at {self.opt})"


def extents(
    signature: Signature, usual: Mapping[str, Array], samples: Sequence[Mapping[str, Array]]
) -> dict[str, Extent]:
    """The sizes of every free dimension.

    Args:
        signature: Which has them; it may say where it begins, ends, and is tuned for.
        usual: Inputs of the size to tune for, where the signature says none.
        samples: Inputs that were proved.
    """
    tuned = _sizes(signature.inputs, usual)
    seen = [tuned, *(_sizes(signature.inputs, inputs) for inputs in samples)]
    found = {}
    for name in signature.dimensions:
        range_ = signature.range_of(name)
        proved = range_.nearest(max(sizes[name] for sizes in seen))
        largest = proved if range_.max is None else range_.max
        opt = range_.nearest(tuned[name] if range_.opt is None else range_.opt)
        found[name] = Extent(
            range_.min, min(opt, largest), largest, open=range_.max is None, step=range_.step
        )
    return found


def in_words(sizes: Mapping[str, Extent]) -> str:
    """For a bundle's manifest."""
    return ", ".join(f"{name} {extent}" for name, extent in sizes.items())


def shapes(signature: Signature, sizes: Mapping[str, Extent]) -> dict[str, Bounds]:
    """Of each input with a free dimension."""
    return {
        spec.name: Bounds(
            _at(spec, {name: extent.min for name, extent in sizes.items()}),
            _at(spec, {name: extent.opt for name, extent in sizes.items()}),
            _at(spec, {name: extent.max for name, extent in sizes.items()}),
        )
        for spec in signature.inputs
        if any(isinstance(size, str) for size in spec.shape)
    }


def values(
    signature: Signature, usual: Mapping[str, Array], samples: Sequence[Mapping[str, Array]]
) -> dict[str, Bounds]:
    """Of each small input of integers, which may say how large something is: what it was.

    Args:
        signature: Which has them.
        usual: Inputs to tune for.
        samples: Inputs that were proved.
    """
    found = {}
    for spec in signature.inputs:
        if spec.dtype in ("int32", "int64") and all(isinstance(size, int) for size in spec.shape):
            opt = usual[spec.name].reshape(-1)
            if opt.size <= _MOST_VALUES:
                seen = [opt, *(inputs[spec.name].reshape(-1) for inputs in samples)]
                low, high = np.min(seen, axis=0), np.max(seen, axis=0)
                found[spec.name] = Bounds(_ints(low), _ints(opt), _ints(high))
    return found


def _sizes(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> dict[str, int]:
    return {
        name: inputs[spec.name].shape[axis]
        for spec in specs
        for axis, name in enumerate(spec.shape)
        if isinstance(name, str)
    }


def _at(spec: TensorSpec, sizes: Mapping[str, int]) -> Sizes:
    return tuple(size_at(size, sizes) for size in spec.shape)


def _ints(array: Array) -> Sizes:
    return tuple(int(each) for each in array)
