import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.weights.of_artefact import Weight, c_order, itemsize


@given(st.data())
def test_views_in_c_order(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["uint8", "float16", "float32", "int64", "complex64"]))
    storage = np.arange(data.draw(st.integers(0, 60))).astype(dtype)
    shape = tuple(data.draw(st.lists(st.integers(0, 4), max_size=4)))
    strides = tuple(data.draw(st.integers(0, 9)) for _ in shape)
    offset = data.draw(st.integers(0, 9))
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    args = (storage.tobytes(), dtype, offset, shape, strides)
    if 0 in shape:
        assert c_order(*args, 10_000) == b""
    elif last >= storage.size:
        with pytest.raises(ValueError, match=r"a tensor of shape .* does not fit into \d+ bytes"):
            c_order(*args, 10_000)
    else:
        index = offset + sum(s * i for s, i in zip(strides, np.indices(shape), strict=True))
        assert c_order(*args, 10_000) == storage[np.asarray(index)].tobytes()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        *((-1, (2,), (1,)), (0, (2,), (-1,)), (0, (-2,), (1,)), (0, (2,), ()), (0, (2**62,), (0,))),
        *((2**70, (2,), (1,)), (0, (1,), (2**70,)), (0, (0, 2**70), (1, 1)), (2**62, (1,), (1,))),
        *((0, (2**62,) * 64, (0,) * 64), (0, (2,), (2**62,))),
    ],
)
def test_views_that_make_no_sense(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"a tensor (has|of) shape "):
        c_order(bytes(64), "float32", offset, shape, strides, 64)


def test_more_axes_than_there_are() -> None:
    assert c_order(bytes(64), "float32", 0, (1,) * 64, (2**62,) * 64, 64) == bytes(4)
    with pytest.raises(ValueError, match="a tensor has 65 axes, at most 64 are expected"):
        c_order(bytes(64), "float32", 0, (1,) * 65, (1,) * 65, 64)


@given(st.integers(0, 40), st.integers(1, 50))
def test_parts_of_a_weight(count: int, most: int) -> None:
    whole = Weight("w", "int16", (2, count), np.arange(2 * count, dtype="<i2").tobytes())
    parts = [part.values() for part in whole.split(most)]
    assert all(part is not None and 0 < len(part) <= most for part in parts)
    assert [n for part in parts if part is not None for n in part] == [*range(2 * count)]


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("int16", (3,)), ("type 99", (4,)), ("int16", (2**70, 0)), ("int8", (2**64,) * 10**6)],
)
def test_nothing_to_split_and_no_values(dtype: str, shape: tuple[int, ...]) -> None:
    data = b"" if 0 in shape else bytes(4)
    assert list(Weight("w", dtype, shape, data).split()) == []
    assert list(Weight("w", dtype, shape, None).split()) == []
    assert Weight("w", dtype, shape, data).values() is None


def test_sizes_of_dtypes() -> None:
    known = ("bfloat16", "float8_e4m3fn", "complex32", "bool", "float64")
    assert [itemsize(name) for name in known] == [2, 1, 4, 1, 8]
    with pytest.raises(ValueError, match="a tensor has the dtype 'four'"):
        itemsize("four")


@pytest.mark.parametrize("dtype", ["complex64", "float8_e4m3fn", "type 99", "O", "S4"])
def test_what_is_no_plain_number_has_no_values(dtype: str) -> None:
    assert Weight("w", dtype, (1,), bytes(8)).values() is None
    assert Weight("w", "float32", (1,), None).values() is None
    assert Weight("w", "float32", (3,), bytes(8)).values() is None
