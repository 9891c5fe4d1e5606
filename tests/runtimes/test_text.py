import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.errors import InputError
from edgeport.runtimes.text import decode, encode, ended, strings


@given(st.lists(st.text(st.characters(exclude_categories=[])), min_size=1))
def test_what_is_encoded_is_decoded(texts: list[str]) -> None:
    table = encode(texts)
    assert table.dtype == np.int32
    assert table.shape == (len(texts), max(8, *map(len, texts)))
    assert decode(table) == texts


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("text", "got one string, expected a list of them"),
        ([], "got no text, expected a list of them"),
        ([b"text"], "a text is of type bytes, expected a string"),
    ],
)
def test_what_is_no_list_of_texts(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode(texts)


def test_a_number_that_is_no_code_point() -> None:
    with pytest.raises(InputError, match="code points from 0 to 1114112, expected 0 to 1114111"):
        decode(np.array([[0, 0x110000]], np.int32))


def test_the_end_of_a_text_is_its_end() -> None:
    table = np.array([[1, -1, 2, -1], [-1, 3, 4, 5], [6, 7, 8, 9]], np.int32)
    found = ended(table)
    assert found.tolist() == [[1, -1, -1, -1], [-1, -1, -1, -1], [6, 7, 8, 9]]
    assert found.dtype == np.int32


@given(st.lists(st.text(), min_size=1))
def test_strings_are_the_texts(texts: list[str]) -> None:
    assert strings(encode(texts), "text") == texts
