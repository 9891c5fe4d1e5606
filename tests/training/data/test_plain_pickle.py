import os
import pickle
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.training.data.plain_pickle import byte_array, read_plain

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=20,
)

ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
    b"J\xff\xff\xff\xffK\x00tb\x89U\x06\x00\x01\x7f\x80\xfe\xfftb."
)


@given(PLAIN, st.sampled_from([0, 1, 2]))
def test_plain_values_come_back(value: object, protocol: int) -> None:
    assert read_plain(pickle.dumps(value, protocol)) == value


def test_an_array_as_python_2_wrote_it() -> None:
    found = byte_array(read_plain(b"\x80\x02" + ARRAY))
    assert found.tolist() == [[0, 1, 127], [128, 254, 255]]
    assert found.dtype == np.uint8
    for damaged in (
        ARRAY.replace(b"u1", b"i8"), ARRAY.replace(b"\x89", b"\x88"),  # another kind; columns first
        ARRAY.replace(b"K\x02K\x03", b"K\x02K\x04"), ARRAY.replace(b"K\x02", b"N"),
        pickle.dumps(["no"], 2),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError)):
            byte_array(read_plain(damaged))


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (pickle.dumps({"data": Attack()}, 2), "it names posix.system"),
        (pickle.dumps({"data": Attack()}, 4), "it holds FRAME"),
        (b"cbuiltins\neval\n.", "it names builtins.eval"),
        (b"(S'exit'\nios\nsystem\n.", "it holds INST"),
        (b"\x82\x01.", "it holds EXT1"),
        (b"Pa\n.", "it holds PERSID"),
        (b"", "it is no pickle of plain values"),
        (b"}", "it is no pickle of plain values"),
        (b".", "it is no pickle of plain values"),
        (b"t.", "it is no pickle of plain values"),
        (b"K\x01e.", "it is no pickle of plain values"),
        (b"h\x07.", "it is no pickle of plain values"),
        (b"K\x01K\x02b.", "it is no pickle of plain values"),
        (b"K\x01K\x02R.", "it is no pickle of plain values"),
    ],
)
def test_nothing_else_is_read(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        read_plain(data)


@given(st.binary(max_size=60), st.integers(0, len(ARRAY)))
def test_no_bytes_cause_another_error(noise: bytes, where: int) -> None:
    for data in (noise, ARRAY[:where] + noise + ARRAY[where + len(noise) :]):
        try:
            byte_array(read_plain(data))
        except ValueError as e:
            assert str(e)  # noqa: PT017  # that it is one is what is tested
