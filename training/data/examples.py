"""Real data as arrays: what to train on, what is held out, and where it came from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgeport.runtimes.errors import SourceError

Array = NDArray[Any]


_TAKEN_NAMES: Final = {
    "labels": "as what is predicted is in a run",
    "self": "as the module itself is when it is called",
}


@dataclass(frozen=True, slots=True)
class Labelled:
    """Examples, each with a class or with values to predict.

    Attributes:
        inputs: By the name of forward's parameter, one example a row. Images of several sizes, or
            too many for the memory, are an array of arrays, made with ``ragged``.
        labels: (n,) int64, the class of each row; or (n,) or (n, values) float32 or float64.

    Raises:
        SourceError: There is no example, or an input has not one row a label.
    """

    inputs: Mapping[str, Array]
    labels: Array

    def __post_init__(self) -> None:
        classes = self.labels.dtype == np.int64 and self.labels.ndim == 1
        values = self.labels.dtype in (np.float32, np.float64) and self.labels.ndim in (1, 2)
        if not (classes or values) or len(self.labels) == 0:
            raise SourceError(
                f"labels are {self.labels.dtype}{list(self.labels.shape)}, expected int64[n] for "
                "classes or float32[n] for values",
                remedy="give one class number or value per example, and at least one example",
            )
        answer = "logits" if self.classification else "prediction"
        for name, why in {**_TAKEN_NAMES, answer: "as the answer of the model is"}.items():
            if name in self.inputs:
                raise SourceError(
                    f"an input is named {name!r}, {why}", remedy="rename the column or array"
                )
        for name, array in self.inputs.items():
            if array.shape[:1] != self.labels.shape[:1]:
                raise SourceError(
                    f"{name!r} has shape {list(array.shape)}, there are {len(self.labels)} labels",
                    remedy="give one row per label",
                )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classification(self) -> bool:
        """Whether labels are classes."""
        return self.labels.dtype == np.int64

    def decoded(self) -> "Labelled":
        """The same, with arrays in the places of what is one when it is looked at."""
        inputs = {
            name: together([np.asarray(one) for one in array]) if array.dtype == object else array
            for name, array in self.inputs.items()
        }
        return Labelled(inputs, self.labels)

    def rows(self, chosen: Array) -> "Labelled":
        """Some of the examples, by index."""
        inputs = {name: array[chosen] for name, array in self.inputs.items()}
        return Labelled(inputs, self.labels[chosen])


def narrowed(values: Array, what: str) -> Array:
    """Floats as float32, which is what a model takes.

    Args:
        values: Finite.
        what: They are, for an error.

    Raises:
        SourceError: They are beyond float32; or it rounds them by more than a hundredth of the span
            they have, as it does 1e9, 1e9 + 1, 1e9 + 2, ... or numbers below 1e-45.
    """
    with np.errstate(over="ignore", under="ignore"):
        found = values.astype(np.float32)
    if not np.isfinite(found).all():
        raise SourceError(f"{what} holds numbers beyond float32", remedy="use another unit")
    if not values.size:
        return found
    least, most = values.min(), values.max()
    lost = float(np.abs(found.astype(values.dtype) - values).max())
    if least < most and lost / 2 > 0.01 * (most / 2 - least / 2):  # the span may be beyond a type
        raise SourceError(
            f"{what} lies between {least:.17g} and {most:.17g}, and float32, which a model takes, "
            f"rounds that by up to {lost:.2g}",
            remedy="use another unit, or subtract what all have in common",
        )
    return found


def together(arrays: Sequence[Array]) -> Array:
    """Arrays in one: (n, ...) if they have one shape, else (n,) object."""
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else ragged(arrays)


def ragged(arrays: Sequence[ArrayLike]) -> Array:
    """Arrays of several shapes, or what is one when it is looked at, in one: (n,) object."""
    found = np.empty(len(arrays), object)
    for index, array in enumerate(arrays):
        found[index] = array
    return found


@dataclass(frozen=True, slots=True)
class Split:
    """How examples were held out: the arguments of scikit-learn's ``train_test_split``.

    Attributes:
        test_size: The share that is held out.
        random_state: ``None`` if nothing was drawn: the data set has a part to test on.
        stratified: Whether as much of every class was drawn.
    """

    test_size: float
    random_state: int | None
    stratified: bool

    def held_out(self, examples: int) -> int:
        """How many of so many examples are held out; those that are drawn are rounded up."""
        share = self.test_size * examples
        return round(share) if self.random_state is None else math.ceil(share)


@dataclass(frozen=True, slots=True)
class Origin:
    """Which data it was.

    Attributes:
        name: Of the data set.
        examples: Before the split.
        sha256: Of the bytes of all inputs, then all labels, before the split.
        split: How examples were held out.
        schema: What each column or array holds: ``float32``, ``float32[1, 8, 8]``, ``text``.
        target: The name of what is predicted.
        classes: Names of the classes by number; empty where values are predicted.
    """

    name: str
    examples: int
    sha256: str
    split: Split
    schema: Mapping[str, str] = field(default_factory=dict)
    target: str = "label"
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, split.

    Attributes:
        origin: Where it came from.
        train: To train on.
        held_out: To measure on.
        notes: What was guessed when it was read, and what was left out, in sentences.
    """

    origin: Origin
    train: Labelled
    held_out: Labelled
    notes: tuple[str, ...] = ()
