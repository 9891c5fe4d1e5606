import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from edgeport.runtimes import InputError, Range, Signature, TensorSpec
from edgeport.runtimes.inputs import Array, InputCheck
from edgeport.runtimes.signature import DTYPES

IMAGE = TensorSpec("image", "float32", ("batch", 3))
MASK = TensorSpec("mask", "bool", ("batch",))
CHECK = InputCheck(Signature((IMAGE, MASK), (), {"batch": Range(1, 8)}))


def image(*shape: int, dtype: str = "float32") -> Array:
    return np.zeros(shape, dtype)


def mask(rows: int = 2) -> Array:
    return np.zeros(rows, np.bool_)


def test_the_order_is_the_signatures() -> None:
    given_ = {"mask": mask(), "image": image(2, 3)}
    assert [a is b for a, b in zip(CHECK(given_), (given_["image"], given_["mask"]), strict=True)]
    assert len(CHECK(MappingProxyType(given_))) == 2


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"imagf": image(2, 3), "mask": mask()},
            "wrong input names: missing 'image', unknown 'imagf'\n  fix: rename 'imagf' to 'image'",
        ),
        (
            {"zzz": image(2, 3)},
            "wrong input names: missing 'image', 'mask', unknown 'zzz'\n"
            "  fix: this model takes 'image', 'mask'",
        ),
        ({}, "wrong input names: missing 'image', 'mask'\n  fix: this model takes"),
        (
            {"image": image(2, 3), "mask": mask(), "more": mask(), 3: mask()},
            "wrong input names: unknown 'more', 3\n  fix: this model takes 'image', 'mask'",
        ),
        (
            [image(2, 3), mask()],
            "inputs must be a mapping of name to array, got list\n"
            "  fix: pass {'image': ..., 'mask': ...}",
        ),
        (image(2, 3), "inputs must be a mapping of name to array, got ndarray"),
        (np.zeros(2, [("other", "f4")]), "inputs must be a mapping of name to array, got ndarray"),
        (None, "inputs must be a mapping of name to array, got NoneType"),
        (
            {"image": [[1.0, 2.0, 3.0]], "mask": mask()},
            "input 'image' is of type list, expected a numpy array\n"
            "  fix: pass np.asarray(value, dtype=np.float32)",
        ),
        (
            {"image": image(2, 3), "mask": (True, False)},
            "input 'mask' is of type tuple, expected a numpy array\n"
            "  fix: pass np.asarray(value, dtype=np.bool_)",
        ),
        (
            {"image": np.ma.masked_array(image(2, 3), mask=True), "mask": mask()},
            "input 'image' is a masked array, and engines would ignore the mask\n"
            "  fix: fill it first: array.filled(0)",
        ),
        (
            {"image": image(2, 3, dtype="float64"), "mask": mask()},
            "input 'image' is float64, expected float32\n"
            "  fix: convert it: array.astype(np.float32)",
        ),
        (
            {"image": image(2, 3, dtype=">f4"), "mask": mask()},
            "input 'image' is float32 in foreign byte order, expected float32\n"
            "  fix: convert it: array.astype(np.float32)",
        ),
        (
            {"image": np.array([[None] * 3]), "mask": mask(1)},
            "input 'image' is object, expected float32",
        ),
        (
            {"image": image(3), "mask": mask()},
            "input 'image' has 1 axes [3], expected 2: [batch, 3]\n"
            "  fix: add the missing axis with array[None]",
        ),
        (
            {"image": image(2, 3, 1), "mask": mask()},
            "input 'image' has 3 axes [2, 3, 1], expected 2: [batch, 3]\n"
            "  fix: reshape it to [batch, 3]",
        ),
        (
            {"image": np.float32(1), "mask": mask()},
            "input 'image' has 0 axes [], expected 2: [batch, 3]\n  fix: reshape it to",
        ),
        (
            {"image": image(2, 4), "mask": mask()},
            "input 'image' has shape [2, 4]: axis 1 is 4, expected 3\n"
            "  fix: the model takes image: float32[batch, 3]",
        ),
        (
            {"image": image(9, 3), "mask": mask(9)},
            "input 'image' has shape [9, 3]: axis 0 is 9, expected batch in 1..8",
        ),
        (
            {"image": image(0, 3), "mask": mask(0)},
            "input 'image' has shape [0, 3]: axis 0 is 0, expected batch in 1..8",
        ),
        (
            {"image": image(2, 3), "mask": mask(3)},
            "dimension 'batch' is 2 in input 'image' but 3 in input 'mask' (axis 0)\n"
            "  fix: give every input the same 'batch'",
        ),
    ],
)
def test_every_mistake_is_named(inputs: Any, message: str) -> None:
    for _ in range(2):  # a refused shape is not remembered
        with pytest.raises(InputError, match=re.escape(message)):
            CHECK(inputs)


@pytest.mark.parametrize("rows", [0, 7, 16, 24])
def test_a_size_that_is_no_multiple_of_the_step(rows: int) -> None:
    check = InputCheck(Signature((MASK,), (), {"batch": Range(8, 12, step=4)}))
    assert len(check({"mask": mask(12)})) == 1
    message = (
        f"axis 0 is {rows}, expected batch in 8..12 in steps of 4\n  fix: the model takes mask"
    )
    with pytest.raises(InputError, match=re.escape(message)):
        check({"mask": mask(rows)})


def test_a_model_without_inputs() -> None:
    check = InputCheck(Signature((), ()))
    assert check({}) == []
    with pytest.raises(InputError, match="unknown 'x'\n  fix: this model takes nothing"):
        check({"x": mask()})


def layouts(array: Array) -> list[Array]:
    """The same values, laid out in memory in other ways."""
    unaligned = np.frombuffer(b"x" + array.tobytes(), array.dtype, array.size, 1)
    wide = np.zeros((*array.shape, 2), array.dtype)
    wide[..., 0] = array
    readonly = array.copy()
    readonly.flags.writeable = False
    return [
        array,
        array.copy(order="F"),
        unaligned.reshape(array.shape),
        np.asarray(wide[..., 0]),
        array[::-1].copy()[::-1] if array.ndim else array,
        readonly,
        array.view(np.recarray) if array.ndim else array,
    ]


@given(st.data(), st.sampled_from(DTYPES))
def test_what_passes_is_contiguous_aligned_native_and_equal(data: st.DataObject, name: str) -> None:
    dtype = np.dtype(name)
    array = data.draw(nps.arrays(dtype, nps.array_shapes(min_dims=0, max_dims=3, max_side=3)))
    check = InputCheck(Signature((TensorSpec("x", name, array.shape),), ()))
    for given_ in layouts(array):
        (passed,) = check({"x": given_})
        assert type(passed) is np.ndarray
        assert passed.flags.c_contiguous
        assert passed.flags.aligned
        assert passed.dtype == dtype
        assert passed.dtype.isnative
        assert passed.shape == array.shape
        assert passed.tobytes() == array.tobytes()


def test_a_numpy_scalar_and_a_memory_map_pass(tmp_path: Path) -> None:
    check = InputCheck(Signature((TensorSpec("x", "int64", ()),), ()))
    given_: Any = np.int64(7)
    assert check({"x": given_}) == [7]
    np.save(tmp_path / "x.npy", image(2, 3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert type(CHECK({"image": mapped, "mask": mask()})[0]) is np.ndarray


def test_threads_that_send_different_shapes_do_not_disturb_one_another() -> None:
    start = threading.Barrier(8)

    def send(rows: int) -> int:
        start.wait()
        refused = 0
        for _ in range(2000):
            wrong: Mapping[str, Array] = {"image": image(rows, 3), "mask": mask(rows + 1)}
            try:
                CHECK(wrong)
            except InputError:
                refused += 1
            assert CHECK({"image": image(rows, 3), "mask": mask(rows)})[0].shape == (rows, 3)
        return refused

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, range(1, 9))) == [2000] * 8
