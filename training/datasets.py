"""Real data as arrays: what to train on, what is held out, and where it came from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeport.runtimes.errors import BackendMissingError, SourceError

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Examples with one class each.

    Attributes:
        inputs: By the name of forward's parameter, one example a row.
        labels: (n,) int64, the class of each row.

    Raises:
        SourceError: There is no example, or an input has not one row a label.
    """

    inputs: Mapping[str, Array]
    labels: Array

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != np.int64 or len(self.labels) == 0:
            raise SourceError(
                f"labels are {self.labels.dtype}{list(self.labels.shape)}, expected int64[n]",
                remedy="give one class number per example, and at least one example",
            )
        for name, array in self.inputs.items():
            if array.shape[:1] != self.labels.shape:
                raise SourceError(
                    f"{name!r} has shape {list(array.shape)}, there are {len(self.labels)} labels",
                    remedy="give one row per label",
                )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Split:
    """How examples were held out: the arguments of scikit-learn's ``train_test_split``."""

    test_size: float
    random_state: int
    stratified: bool


@dataclass(frozen=True, slots=True)
class Origin:
    """Which data it was.

    Attributes:
        name: Of the data set.
        examples: Before the split.
        sha256: Of the bytes of all inputs, then all labels, before the split.
        split: How examples were held out.
    """

    name: str
    examples: int
    sha256: str
    split: Split


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set, split."""

    origin: Origin
    train: Labelled
    held_out: Labelled


def digits() -> DataSet:
    """The 1,797 handwritten digits that come with scikit-learn: no download.

    ``image``: (n, 1, 8, 8) float32, 0 for paper to 1 for ink. A fifth is held out, with the seed
    that published figures for this data mostly use, not stratified: logistic regression reaches
    0.9722 there, an MLP 0.9833, an SVM 0.9889.

    Raises:
        BackendMissingError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"the digits come with scikit-learn, and {e.name!r} is not installed",
            remedy="pip install 'edgeport[train]'",
        ) from e
    found: Any = load_digits()
    images = (found.images / 16).astype(np.float32)[:, None]  # (n, 8, 8) of 0..16 -> (n, 1, 8, 8)
    labels = found.target.astype(np.int64)
    sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    split = Split(test_size=0.2, random_state=42, stratified=False)
    rows = np.arange(len(labels))
    train, held_out = map(
        np.asarray,
        train_test_split(rows, test_size=split.test_size, random_state=split.random_state),
    )
    return DataSet(
        Origin("digits", len(labels), sha256, split),
        Labelled({"image": images[train]}, labels[train]),
        Labelled({"image": images[held_out]}, labels[held_out]),
    )
