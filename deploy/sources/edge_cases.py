"""Edge cases among the samples: zeros, ones, large and denormal values, integers at their ends."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

import numpy as np

from edgeport.runtimes import Signature, TensorSpec
from edgeport.runtimes.inputs import Array

from .drawing import Values, measured

LARGE: Final = 100.0
"""Factor of the "large" edge case."""


def edge_cases(
    declared: Signature, usual: Mapping[str, Array], values: Values
) -> Iterator[tuple[str, dict[str, Array]]]:
    """Cases by name; masks and lengths, which say what is looked at, stay beside other inputs.

    Args:
        declared: The inputs.
        usual: Of usual sizes and values.
        values: Where these come from.
    """
    say = {spec.name for spec in declared.inputs if _says(declared, spec, usual[spec.name])}
    changed = {name: array for name, array in usual.items() if name not in say} or usual
    for name, same in (("zeros", np.zeros_like), ("ones", np.ones_like)):
        yield name, {**usual, **{n: same(a) for n, a in changed.items()}}
    if any(array.dtype.kind == "f" for array in usual.values()):
        holes = partial(_with_zeros, generator=np.random.default_rng(0))  # elsewhere in each input
        for name, change in (("large", large), ("denormal", _denormal), ("some zeros", holes)):
            yield name, {n: change(a) for n, a in usual.items()}
    ends = {n: _ends(values, n) for n, array in changed.items() if array.dtype.kind in "iu"}
    if any(end not in (0, 1) for pair in ends.values() for end in pair):
        for place, name in enumerate(("least integers", "greatest integers")):
            fixed = {n: np.full_like(usual[n], pair[place]) for n, pair in ends.items()}
            yield name, {**usual, **fixed}


def _says(declared: Signature, spec: TensorSpec, usual: Array) -> bool:
    """Whether an input looks like one that says which places of the others count."""
    if usual.dtype.kind == "f":
        return False
    return bool(np.isin(usual, (0, 1)).all()) or measured(declared, spec) is not None


def large(array: Array) -> Array:
    """Floats times ``LARGE``."""
    with np.errstate(over="ignore"):  # float16 ends at 65,504: an infinity is an edge case too
        found: Array = array * array.dtype.type(LARGE) if array.dtype.kind == "f" else array
    return found


def _denormal(array: Array) -> Array:
    """An eighth of the smallest normal number, with the signs that there were."""
    if array.dtype.kind != "f":
        return array
    tiny = np.finfo(array.dtype).tiny / 8
    denormal: Array = (np.sign(array) * tiny).astype(array.dtype)
    return denormal


def _with_zeros(array: Array, generator: np.random.Generator) -> Array:
    """A third of the values are 0, as behind a ReLU: where conditions on a sign turn."""
    if array.dtype.kind != "f":
        return array
    return np.where(generator.random(array.shape) < 1 / 3, array.dtype.type(0), array)


def _ends(values: Values, name: str) -> tuple[int, int]:
    """The smallest and the largest integer that an input was seen to take.

    Not those of its dtype: a module may count to them, or ask for as much memory.
    """
    whole = values.seen(name)
    return (int(whole.min()), int(whole.max())) if whole.size else (0, 0)
