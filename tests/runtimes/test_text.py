import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.errors import InputError
from edgeport.runtimes.text import decode, encode


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
        ([b"text"], "a text is a bytes, expected a string"),
    ],
)
def test_what_is_no_list_of_texts(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode(texts)


def test_a_number_that_is_no_code_point() -> None:
    with pytest.raises(InputError, match="code points from 0 to 1114112, expected 0 to 1114111"):
        decode(np.array([[0, 0x110000]], np.int32))
