"""Weights that ONNX Runtime's tools rounded to integers, as the numbers that they stand for.

Such a weight is three tensors: integers, their step (one, or one for each channel, of a recurrent
layer in each direction), and which of them is 0. Along which axes channels lie is said by the graph
alone, and it may have been transposed for its kernel; of the ways that fit, the right one is
nearest to what it was.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array

from .of_artefact import Weight

PARTS: Final = ("_scale", "_zero_point")
"""Ends of the names of tensors that are no weights, but belong to rounded ones or to values."""


def as_floats(weights: Mapping[str, Weight], other: Mapping[str, Weight]) -> dict[str, Weight]:
    """Weights, of which those that another file holds whole are whole, under the same names."""
    found = dict(weights)
    for name, whole in other.items():
        integers = weights.get(f"{name}_quantized")
        if integers is None or name in weights:
            continue
        begin = integers.name if f"{integers.name}_scale" in weights else name  # of a bias
        step, zero = (weights.get(f"{begin}{end}") for end in PARTS)
        if step is not None and (meant := _nearest(integers, step, zero, whole)) is not None:
            for part in (integers.name, *(f"{begin}{end}" for end in PARTS)):
                found.pop(part, None)
            data = meant.astype("<f4").tobytes()
            found[name] = replace(whole, dtype="float32", data=data)
    return found


def _nearest(integers: Weight, step: Weight, zero: Weight | None, whole: Weight) -> Array | None:
    numbers, steps, like = integers.values(), step.values(), whole.values()
    zeros = np.zeros(1) if zero is None else zero.values()
    if numbers is None or steps is None or zeros is None or like is None:
        return None
    ways = _ways(numbers, np.squeeze(steps), np.squeeze(zeros), like.shape)
    return min(ways, key=lambda way: float(np.abs(way - like).sum()), default=None)


def _ways(numbers: Array, steps: Array, zeros: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    if zeros.size not in (1, steps.size) or steps.ndim > 2:  # of an attacker
        return
    for axes in itertools.combinations(range(numbers.ndim), steps.ndim):
        sizes = [size if axis in axes else 1 for axis, size in enumerate(numbers.shape)]
        if steps.shape == tuple(sizes[axis] for axis in axes):
            zero = zeros if zeros.size == 1 else zeros.reshape(sizes)
            wide = (numbers - zero) * steps.reshape(sizes)
            for way in (wide, wide.swapaxes(-1, -2)) if wide.ndim > 1 else (wide,):
                if way.shape == shape:
                    yield way
