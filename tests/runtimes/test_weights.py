import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes.weights import Weight, c_order, itemsize


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
    [(-1, (2,), (1,)), (0, (2,), (-1,)), (0, (-2,), (1,)), (0, (2,), ()), (0, (2**62,), (0,))],
)
def test_views_that_make_no_sense(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"a tensor (has|of) shape "):
        c_order(bytes(64), "float32", offset, shape, strides, 64)


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
