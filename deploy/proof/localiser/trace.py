"""A trace: every value of one run, and which values it was computed from.

The eager module, an ONNX file and a torch archive all leave one, so that they can be compared
without anything that an exporter may or may not have written down.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgeport.runtimes.inputs import Array

Frame = tuple[str, int]
"""File and line."""

LEAST_KEPT: Final = 4096
"""Elements of a large value that are compared at the least: enough for an rms within 2 %."""

_MOST_KEPT: Final = 2**18
_COPIES_BYTES: Final = 16
"""Per element: float32 of eager and of the artefact, float64 of the oracle."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a run.

    Attributes:
        number: Its place in the order of execution.
        operator: What computed it; ``""`` for an input or a weight.
        name: Of the node, the input or the weight; ``""`` if there is none.
        sources: Numbers of the values that it was computed from.
        varies: Whether it depends on the inputs.
        shape: Sizes of the whole value.
        kept: Its elements, flat; of a large value, always the same ones of that size.
        oracle: The same elements in float64, or ``None``.
        module: Path of the module that ran; ``None`` if unknown.
        frames: Python's stack when it was computed, innermost first.
        view: It only rearranges the elements of its source.
        call: How to compute it again: a torch operator with its arguments.
    """

    number: int
    operator: str
    name: str
    sources: tuple[int, ...]
    varies: bool
    shape: tuple[int, ...]
    kept: Array
    oracle: Array | None = None
    module: str | None = None
    frames: tuple[Frame, ...] = ()
    view: bool = False
    call: Any = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether all elements were kept."""
        return self.kept.size == self.size

    @property
    def floats(self) -> bool:
        """Whether the elements are floats."""
        return self.kept.dtype.kind == "f"


@dataclass(frozen=True, slots=True)
class Trace:
    """All values of a run, in order.

    Attributes:
        outputs: By name, the number of the value; none if the run failed.
        failure: Why it did.
        failed: Node and operator that failed, where the engine names them.
    """

    values: Sequence[Value]
    outputs: Mapping[str, int]
    failure: str = ""
    failed: tuple[str, str] | None = None


def kept_per_value(memory_bytes: int, values: int) -> int:
    """How many elements of each value may be kept."""
    share = memory_bytes // (_COPIES_BYTES * max(1, values))
    return max(LEAST_KEPT, min(_MOST_KEPT, share))


def keep(array: Array, limit: int) -> Array:
    """A flat copy; of a larger array, the elements at places that depend on its size alone."""
    flat = array.reshape(-1)
    if flat.size <= limit:
        return flat.copy()
    return flat[places(flat.size, limit)]


@functools.lru_cache(64)
def places(size: int, limit: int) -> Array:
    """Random places, in order: a stride could follow one axis and never see the others.

    Raises:
        ValueError: ``limit`` is not smaller than ``size``.
    """
    if limit >= size:
        raise ValueError(f"{limit} places of {size}")
    edges = np.arange(limit + 1) * size // limit
    jitter = np.random.default_rng(size).random(limit)
    found: Array = edges[:-1] + (jitter * np.diff(edges)).astype(np.int64)  # one in each stretch
    return found
