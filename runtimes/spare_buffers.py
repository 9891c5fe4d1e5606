"""Sets of buffers for calls whose shapes repeat: what a session need not make again each time."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy import ndarray

from .inputs import Array
from .signature import Signature

LARGEST_BYTES: Final = 1 << 16
"""Of the tensors of one call together: above it their copies cost more than they save."""

_MOST_SHAPES: Final = 128
"""As many as a server's batches have sizes; 8 MB at most, for one thread."""

_Buffers = TypeVar("_Buffers")


class SpareBuffers(Generic[_Buffers]):
    """The sets of buffers of one session that are free. Safe to share between threads.

    A call has a set for itself: threads take them from a list per combination of input shapes, and
    put them back (``list.pop`` and ``list.append`` are atomic).

    Attributes:
        plan: Name and dtype of each input.
        by_shapes: What is free, by the shapes of the inputs.
    """

    __slots__ = ("by_shapes", "plan")

    def __init__(self, signature: Signature) -> None:
        self.plan: tuple[tuple[str, np.dtype[Any]], ...] = tuple(
            (spec.name, np.dtype(spec.dtype)) for spec in signature.inputs
        )
        self.by_shapes: dict[tuple[tuple[int, ...], ...], list[_Buffers]] = {}

    def take(
        self, inputs: Mapping[str, Array]
    ) -> tuple[list[Array], list[_Buffers], _Buffers] | None:
        """Take a set for these inputs: the arrays in order, where to put the set back, and it.

        What has buffers was checked when they were made, so only what an array could differ in is
        looked at: type, dtype and shape. Strides and alignment don't matter to a copy.

        Returns:
            ``None`` if none is free that fits: call the engine in the usual way.
        """
        arrays, shapes = [], []
        try:
            for name, dtype in self.plan:
                array = inputs[name]
                if type(array) is not ndarray or array.dtype is not dtype:
                    return None
                arrays.append(array)
                shapes.append(array.shape)
            if len(inputs) != len(arrays):
                return None
            free = self.by_shapes[tuple(shapes)]
            return arrays, free, free.pop()
        except Exception:  # shapes never seen, other threads have them all, or no mapping
            return None

    def add(self, arrays: Sequence[Array], buffers: _Buffers) -> None:
        """Keep one more set, for inputs of the shapes of these."""
        if len(self.by_shapes) >= _MOST_SHAPES:
            self.by_shapes.clear()
        shapes = tuple([array.shape for array in arrays])
        self.by_shapes.setdefault(shapes, []).append(buffers)


def are_small(tensors: Sequence[Array]) -> bool:
    """Whether tensors of numbers are worth being copied to buffers, and have elements at all."""
    return (
        all(tensor.size and tensor.dtype.kind in "fiub" for tensor in tensors)
        and sum(tensor.nbytes for tensor in tensors) <= LARGEST_BYTES
    )
