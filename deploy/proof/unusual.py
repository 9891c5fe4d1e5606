"""Inputs with NaN and Inf: one, some, and one among large values."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np

from edgeport.deploy.diagnosis.rules import FORKED
from edgeport.deploy.sources.edge_cases import large
from edgeport.deploy.sources.samples import Sample
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array

from .reference import Reference

UNUSUAL: Final = {"NaN": np.nan, "+Inf": np.inf, "-Inf": -np.inf}
ASKED: Final = (*UNUSUAL, *(f"{name}, some" for name in UNUSUAL), "NaN, large")
_SOME: Final = 0.1
"""The share of values that are NaN where some are: most windows, sums and rows have none then."""


def answer_unusual(reference: Reference, names: Iterable[str]) -> list[Golden]:
    """Ask the module about its example with one NaN, or Inf, in the middle of each float input.

    And with some: whether a maximum passes over one hangs on where it stands in its window. And
    about one NaN among large values: an engine that passes over it in a maximum may take another
    way by these, ``if x.max() > 1``, and by those of the example none.

    Args:
        reference: What the module answers.
        names: Some of ``ASKED``.

    Returns:
        Golden samples; without those that the module rejects: nothing has to agree with an error.

    Raises:
        RuntimeError: torch may not be asked here: see ``compilers.derivatives_in_forks``.
    """
    example = reference.source.example
    found = []
    for name in names:
        kind, _, how = name.partition(", ")
        inputs = _UNUSUALLY[how](example, UNUSUAL[kind])
        try:
            found.append(reference.answer(Sample(name, "edge", inputs)))
        except Exception as e:  # whatever the module raises
            if FORKED in str(e):
                raise
    return found


def put(array: Array, value: float, kind: str = "f") -> Array:
    """One value in the middle of an array, if it is of that kind."""
    if array.dtype.kind != kind or not array.size:
        return array
    array = array.copy()
    array.reshape(-1)[array.size // 2] = value
    return array


def _one(example: Mapping[str, Array], value: float) -> dict[str, Array]:
    return {name: put(array, value) for name, array in example.items()}


def _one_among_large(example: Mapping[str, Array], value: float) -> dict[str, Array]:
    return {name: put(large(array), value) for name, array in example.items()}


def some(example: Mapping[str, Array], value: float) -> dict[str, Array]:
    """In places as drawn, elsewhere in each input, and in the last: there is one at least."""
    generator = np.random.default_rng(0)
    found = dict(example)
    for name, array in example.items():
        if array.dtype.kind == "f" and array.size:
            places = generator.random(array.shape) < _SOME
            places.reshape(-1)[-1] = True
            found[name] = np.where(places, array.dtype.type(value), array)
    return found


_UNUSUALLY: Final[Mapping[str, Callable[[Mapping[str, Array], float], dict[str, Array]]]] = {
    "": _one,
    "some": some,
    "large": _one_among_large,
}
