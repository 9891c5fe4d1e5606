"""The part of an artefact between values that are right and the first that is wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from edgeport.runtimes.inputs import Array

from .divergence import Divergence, Sides

Whole = Mapping[int, tuple[Array, Array | None]]
"""Number of a value of the module -> eager's answer and the oracle's, flat."""
_LARGEST: Final = 64
"""Values in a case that is still small."""


@dataclass(frozen=True, slots=True)
class Segment:
    """What to cut out of an artefact; all are numbers of values.

    Attributes:
        output: Of the artefact: the wrong one.
        inner: Of the artefact: what has to be computed for it, itself too.
        inputs: Right values of the artefact -> the values of the module that they are.
        expected: Of the module: what ``output`` ought to be.
    """

    output: int
    inner: frozenset[int]
    inputs: Mapping[int, int]
    expected: int


def segment_of(sides: Sides, found: Divergence) -> Segment | None:
    """What leads to the wrong value, back to values that agree; ``None`` if that is much, or none.

    The inputs are fed with the module's own values, so that an error from before cannot show.
    """
    if found.artefact is None or not sides.artefact.values[found.artefact].operator:
        return None
    inner: set[int] = set()
    inputs: dict[int, int] = {}
    ahead = [found.artefact]
    while ahead:
        number = ahead.pop()
        if number in inner or number in inputs:
            continue
        value = sides.artefact.values[number]
        agreeing = sides.match.of_artefact[number]
        if number != found.artefact and value.varies and agreeing:
            inputs[number] = agreeing[0]
        elif value.varies and not value.operator:
            return None  # an input that is not the module's
        elif value.operator:
            inner.add(number)
            ahead.extend(value.sources)
        if len(inner) > _LARGEST:
            return None
    return Segment(
        found.artefact, frozenset(inner), dict(sorted(inputs.items())), found.counterpart
    )


def inputs_of(segment: Segment, sides: Sides, whole: Whole) -> dict[str, Array]:
    """What a segment is fed with, as the artefact has it: ``input_0``, ``input_1``, ..."""
    values = sides.artefact.values
    return {
        f"input_{index}": whole[number][0]
        .reshape(values[n].shape)
        .astype(values[n].kept.dtype, copy=False)
        for index, (n, number) in enumerate(segment.inputs.items())
    }
