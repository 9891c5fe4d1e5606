import numpy as np
import pytest

from edgeport.runtimes import InputError
from edgeport.runtimes.serve.classes import classify


def test_the_largest_come_first_with_index_and_label() -> None:
    array = np.array([[1, 3, 2], [5, 5, np.nan]], np.float32)
    assert classify("y", array, 2, ("a", "b")).tolist() == [
        [b"3.000000:1:b", b"2.000000:2"],
        [b"5.000000:0:a", b"5.000000:1:b"],
    ]
    assert classify("y", array[0], 9, ()).tolist() == [b"3.000000:1", b"2.000000:2", b"1.000000:0"]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "uint64"])
def test_the_ends_of_an_integer_type_are_ordered(dtype: str) -> None:
    ends = np.iinfo(dtype)
    found = classify("y", np.array([ends.min, ends.max], dtype), 1, ())
    assert found.tolist() == [f"{ends.max}:1".encode()]


def test_what_has_no_classes_is_refused() -> None:
    with pytest.raises(InputError, match=r"output 'y' is bool\[2\], which has no classes"):
        classify("y", np.array([True, False]), 1, ())
