import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes import SourceError
from edgeport.training import Labelled
from edgeport.training.data import code_points
from edgeport.training.models import Columns

COLOURS = ["red", "green", "red", "blå"]


def examples() -> Labelled:
    inputs = {"size": np.array([1, 2, 3, 6], np.float32), "colour": code_points(COLOURS)}
    return Labelled(inputs, np.arange(4))


def test_numbers_are_standardised_and_categories_encoded() -> None:
    columns = Columns.of(examples())
    assert columns.features == ["size", "colour=blå", "colour=green", "colour=red"]
    found = columns(**{name: torch.tensor(a) for name, a in examples().inputs.items()})
    assert found[:, 0].tolist() == pytest.approx(((np.array([1, 2, 3, 6]) - 3) / 3.5**0.5).tolist())
    assert found[:, 1:].tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


@given(text=st.text(max_size=9), padding=st.integers(0, 5))
def test_only_the_category_itself_is_it(text: str, padding: int) -> None:
    """Neither a longer nor a shorter text, however it is filled up."""
    columns = Columns(["colour"], {"colour": ["blue", "blues", "b"]})
    codes = torch.tensor(code_points([text], max(len(text) + padding, 1)))
    expected = [float(text == name) for name in ("blue", "blues", "b")]
    assert columns(colour=codes).tolist() == [expected]


def test_a_column_that_the_split_made_constant() -> None:
    with pytest.raises(SourceError, match="'size' is 2 in every training example"):
        Columns.of(Labelled({"size": np.full(3, 2, np.float32)}, np.arange(3)))


def test_hyperparameters_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="categories of 'b', which is no column or has none"):
        Columns(["a"], {"b": ["x"]})
