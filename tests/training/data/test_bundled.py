import re
import sys
from typing import Any

import numpy as np
import pytest

from edgeport.runtimes import BackendMissingError, SourceError
from edgeport.training import DataSet, Labelled, Origin, Split, digits


def test_digits_are_the_published_ones(data: DataSet) -> None:
    sha256 = "8b3b6ae90863430bdef06a3f7d1ec2f6a905a53d3375655b18cf63780ad98772"
    assert data.origin == Origin(
        "digits", 1797, sha256, Split(0.2, 42, stratified=False),
        {"image": "float32[1, 8, 8]"}, "label", tuple("0123456789"),
    )  # fmt: skip
    for part, rows in ((data.train, 1437), (data.held_out, 360)):
        image = part.inputs["image"]
        assert len(part) == rows
        assert (image.shape, image.dtype.name) == ((rows, 1, 8, 8), "float32")
        assert (part.labels.shape, part.labels.dtype.name) == ((rows,), "int64")
        assert (image.min(), image.max()) == (0, 1)
        assert np.array_equal(image * 16, np.rint(image * 16))
        assert set(part.labels) == set(range(10))


def test_no_example_is_lost_or_on_both_sides(data: DataSet) -> None:
    from sklearn.datasets import load_digits

    def rows(part: Labelled) -> list[bytes]:
        pairs = zip(part.inputs["image"], part.labels, strict=True)
        return [image.tobytes() + label.tobytes() for image, label in pairs]

    found: Any = load_digits()
    images = (found.data / 16).astype(np.float32)
    whole = rows(Labelled({"image": images}, found.target.astype(np.int64)))
    assert sorted(rows(data.train) + rows(data.held_out)) == sorted(whole)
    assert len(set(whole)) == 1797  # no twins: nothing held out is trained on


def test_digits_twice_are_the_same(data: DataSet) -> None:
    again = digits()
    assert again.origin == data.origin
    assert again.held_out.inputs["image"].tobytes() == data.held_out.inputs["image"].tobytes()


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(BackendMissingError, match="the data set digits needs 'sklearn") as caught:
        digits()
    assert caught.value.remedy == "pip install 'edgeport[train]'"


def test_an_input_that_is_named_as_the_labels() -> None:
    with pytest.raises(SourceError, match="an input is named 'labels'"):
        Labelled({"labels": np.zeros(2, np.float32)}, np.zeros(2, np.int64))


@pytest.mark.parametrize(
    ("rows", "labels", "problem"),
    [
        (3, np.zeros(2, np.int64), "'x' has shape [3, 4], there are 2 labels"),
        (0, np.zeros(0, np.int64), "labels are int64[0], expected int64[n]"),
        (3, np.zeros(3, np.int32), "labels are int32[3], expected int64[n] for classes or float32"),
        (3, np.zeros((3, 1), np.int64), "labels are int64[3, 1], expected int64[n]"),
    ],
)
def test_examples_that_do_not_fit(rows: int, labels: np.ndarray, problem: str) -> None:
    with pytest.raises(SourceError, match=re.escape(problem)):
        Labelled({"x": np.zeros((rows, 4), np.float32)}, labels)
