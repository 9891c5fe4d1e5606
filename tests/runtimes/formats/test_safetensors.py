import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from safetensors import SafetensorError

from edgeport.runtimes import FormatError
from edgeport.runtimes.formats.safetensors import read_safetensors
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import DTYPES

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: nps.arrays(
        dtype, nps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
    )
)
tensors = st.dictionaries(st.text(max_size=4).filter(lambda s: s != "__metadata__"), arrays)

SEED = safetensors.numpy.save(
    {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.array([True]),
        "c": np.array(7),
        "empty": np.zeros((0, 4), np.uint8),
    },
    metadata={"made": "by hand"},
)


def equal(found: dict[str, Array], expected: dict[str, Array]) -> bool:
    return found.keys() == expected.keys() and all(
        array.dtype == expected[name].dtype
        and array.shape == expected[name].shape
        and array.tobytes() == expected[name].tobytes()
        for name, array in found.items()
    )


@given(tensors)
def test_what_safetensors_writes_reads_back_equal(written: dict[str, Array]) -> None:
    data = safetensors.numpy.save(written)
    assert equal(read_safetensors(data, "a file"), written)


def test_arrays_are_views_that_cannot_be_written() -> None:
    found = read_safetensors(SEED, "a file")
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not any(array.flags.writeable for array in found.values())


def check_damaged(data: bytes) -> None:
    """Refuse, or read what the library reads, where it reads at all (it wants more of metadata)."""
    tracemalloc.start()
    try:
        found = read_safetensors(data, "a file")
    except FormatError:
        return
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak_bytes < 200_000
    try:
        assert equal(found, safetensors.numpy.load(data))
    except SafetensorError:
        assert sum(array.nbytes for array in found.values()) < len(data)


@given(st.integers(0, len(SEED) - 1))
def test_every_truncation_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match="a file is not a safetensors file: "):
        read_safetensors(SEED[:length], "a file")


@given(st.lists(st.integers(0, 8 * len(SEED) - 1), min_size=1, max_size=4))
@example([8 * 7 + 6])  # the length of the header: 2^62
def test_flipped_bits_are_refused_or_harmless(bits: list[int]) -> None:
    damaged = bytearray(SEED)
    for bit in bits:
        damaged[bit // 8] ^= 1 << bit % 8
    check_damaged(bytes(damaged))


@given(st.integers(0, len(SEED)), st.binary(max_size=12), st.integers(0, 12))
def test_spliced_bytes_are_refused_or_harmless(place: int, inserted: bytes, removed: int) -> None:
    check_damaged(SEED[:place] + inserted + SEED[place + removed :])


@given(st.binary(max_size=200))
def test_noise_is_refused_or_harmless(data: bytes) -> None:
    check_damaged(data)


def pack(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def one(**changes: Any) -> Any:
    return {"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2], **changes}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is shorter than 8 bytes"),
        (b"\xff" * 8, "its header is longer than the file"),
        (pack([]), r"its header is \[\], expected an object"),
        (pack(b"{"), "Expecting property name"),
        (pack(b"\xff"), "codec can't decode"),
        (pack(b"[" * 100_000), "it nests too deeply"),
        (pack(b'{"a": NaN}'), "NaN is not JSON"),
        (pack(b'{"a": 1, "a": 2}'), "the key 'a' is there twice"),
        (pack({"a": []}), r"a value is \[\], expected an object"),
        (pack({"a": {"dtype": "U8"}}), "'shape' is missing"),
        (pack(one(more=1), b"12"), "'more' is not a key that belongs there"),
        (pack(one(dtype="BF16"), b"12"), "dtype 'BF16' is not one that numpy has"),
        (pack(one(dtype=[]), b"12"), r"a dtype is \[\], expected a string"),
        (pack(one(shape="ab"), b"12"), "a shape is 'ab', expected a list"),
        (pack(one(shape=[True, 2]), b"12"), "a size or offset is True, expected an integer"),
        (pack(one(shape=[2.0]), b"12"), "a size or offset is 2.0, expected an integer"),
        (pack(one(shape=[-1, -2]), b"12"), "a size or offset is -1, expected 0 or more"),
        (pack(one(shape=[1] * 33), b"1"), "tensor 'a' has a shape or offsets out of range"),
        (pack(one(shape=[0, 2**100])), "tensor 'a' has a shape or offsets out of range"),
        (pack(one(data_offsets=[0, 1, 2]), b"12"), "tensor 'a' has a shape or offsets out of"),
        (pack(one(data_offsets="02"), b"12"), "data_offsets is '02', expected a list"),
        (pack(one(data_offsets=[0, 2**70]), b"12"), "tensor 'a' does not begin or end where"),
        (pack(one(data_offsets=[1, 3]), b"123"), "tensor 'a' does not begin or end where"),
        (pack(one(data_offsets=[2, 0]), b"12"), "tensor 'a' does not begin or end where"),
        (pack(one(), b"1"), "it has 1 bytes of data, and describes 2"),
        (pack(one(), b"123"), "it has 3 bytes of data, and describes 2"),
        (pack(one() | {"b": one()["a"]}, b"1234"), "tensor 'b' does not begin or end where"),
    ],
)
def test_every_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=f"^a file is not a safetensors file: .*{message}"):
        read_safetensors(data, "a file")


def test_a_shape_of_many_huge_sizes_is_refused_at_once() -> None:
    with pytest.raises(FormatError, match="out of range"):
        read_safetensors(pack(one(shape=[2**62] * 50_000)), "a file")


def test_a_product_of_huge_sizes_allocates_nothing() -> None:
    check_damaged(pack(one(shape=[2**31 - 1] * 32, data_offsets=[0, 2]), b"12"))
