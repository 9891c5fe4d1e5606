"""Buffers that an engine reads, bound to it once and used again whenever the shapes repeat.

To hand an engine new inputs costs more than to compute a small model. A copy into what it holds
already costs less, and ``scripts/bench_overhead.py`` measures both; large tensors take the usual
way.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy import ndarray

from .inputs import Array
from .signature import Signature

LARGEST_BYTES: Final = 1 << 16
"""Inputs and outputs together: above it two copies cost more than they save."""

_MOST_SHAPES: Final = 128
"""As many as a server's batches have sizes; 8 MB at most, for one thread."""


class Bound(NamedTuple):
    """What one call needs.

    Attributes:
        inputs: In the order of the signature: memory that the engine will read.
        compute: Gives the outputs by name, which the caller owns.
    """

    inputs: Sequence[Array]
    compute: Callable[[], dict[str, Array]]


Bind = Callable[[Sequence[Array], Sequence[Array]], Bound | None]
"""Binds buffers for calls like one that was made: its inputs and outputs; ``None`` if none do."""

Run = Callable[[Mapping[str, Array]], dict[str, Array] | None]
_Shapes = tuple[tuple[int, ...], ...]
_Spare = dict[_Shapes, list[Bound]]


class BoundBuffers:
    """The bound buffers of one session. Safe to share between threads.

    A call has a set of buffers for itself: threads take them from a list per combination of input
    shapes, and put them back (``list.pop`` and ``list.append`` are atomic).

    Attributes:
        run: Computes every output in bound buffers; the caller owns what comes back. ``None`` if
            no buffers are free that fit, or they did not do: call the engine itself. What has
            buffers was checked when they were made, so only what an array could differ in is
            looked at: type, dtype and shape. Strides and alignment don't matter to a copy.
    """

    __slots__ = ("_bind", "_spare", "run")

    def __init__(self, signature: Signature, bind: Bind) -> None:
        self._bind = bind
        self._spare: _Spare = {}
        plan = tuple((spec.name, np.dtype(spec.dtype)) for spec in signature.inputs)
        self.run: Run = (_one if len(plan) == 1 else _many)(plan, self._spare)

    def learn(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Bind buffers for calls like this one, unless its tensors are large.

        Buffers that are free would have been used if they could: then no more are made, or calls
        that nobody's buffers fit would use up the memory.

        Args:
            arrays: Inputs in the order of the signature, which passed the check.
            outputs: What came of them.
        """
        shapes = tuple([array.shape for array in arrays])
        if self._spare.get(shapes) or not _small([*arrays, *outputs]):
            return
        bound = self._bind(arrays, outputs)
        if bound is None:
            return
        if len(self._spare) >= _MOST_SHAPES:
            self._spare.clear()
        self._spare.setdefault(shapes, []).append(bound)


def unbound(_: Mapping[str, Array]) -> None:
    """``run`` of a session that is closed: no buffers, so the usual way says that it is."""


def _many(plan: Sequence[tuple[str, Any]], spare: _Spare) -> Run:
    def run(inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        arrays, shapes = [], []
        try:
            for name, dtype in plan:
                array = inputs[name]
                if type(array) is not ndarray or (
                    array.dtype is not dtype and array.dtype != dtype  # as in ``InputCheck``
                ):
                    return None
                arrays.append(array)
                shapes.append(array.shape)
            if len(inputs) != len(arrays):
                return None
            free = spare[tuple(shapes)]
            bound = free.pop()
        except Exception:  # shapes never seen, other threads have them all, or no mapping
            return None
        own_inputs, compute = bound
        for own, array in zip(own_inputs, arrays):  # noqa: B905  # time is felt here
            own[...] = array
        try:
            outputs = compute()
        except Exception:  # the usual way tells whether it was the buffers' fault
            return None
        free.append(bound)
        return outputs

    return run


def _one(plan: Sequence[tuple[str, Any]], spare: _Spare) -> Run:
    """The same for one input: 1 us less, a tenth of a small model's call."""
    ((name, dtype),) = plan

    def run(inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        try:
            array = inputs[name]
            if (
                type(array) is not ndarray
                or (array.dtype is not dtype and array.dtype != dtype)
                or len(inputs) != 1
            ):
                return None
            free = spare[(array.shape,)]
            bound = free.pop()
        except Exception:
            return None
        (own,), compute = bound
        own[...] = array
        try:
            outputs = compute()
        except Exception:
            return None
        free.append(bound)
        return outputs

    return run


def _small(tensors: Sequence[Array]) -> bool:
    return (
        all(tensor.size and tensor.dtype.kind in "fiub" for tensor in tensors)
        and sum(tensor.nbytes for tensor in tensors) <= LARGEST_BYTES
    )
