"""Buffers that are bound once: the same answers, the same errors, and nothing shared."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeport.runtimes import InputError, Options
from edgeport.runtimes.bound_buffers import LARGEST_BYTES
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.ort.cpu import OrtSession

DTYPES = ["float32", "float64", "float16", "int64", "uint8", "bool"]


def session(
    folder: Path,
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    dtype: str,
) -> OrtSession:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = [helper.make_tensor_value_info("x", kind, ["n", "m"])]
    graph = helper.make_graph(list(nodes), "g", inputs, list(outputs))
    opset = helper.make_opsetid("", 20)
    path = folder / "m.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString()
    )
    return OrtSession(path, Options(threads=1))


def transposed(folder: Path, dtype: str = "float32") -> OrtSession:
    """Two outputs: the input, and its transpose."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Transpose", ["x"], ["across"]),
    ]
    outputs = [
        helper.make_tensor_value_info("same", kind, ["n", "m"]),
        helper.make_tensor_value_info("across", kind, ["m", "n"]),
    ]
    return session(folder, nodes, outputs, dtype)


def check(opened: OrtSession, x: Array) -> None:
    found = opened.run({"x": x})
    assert list(found) == ["same", "across"]
    assert found["same"].dtype == found["across"].dtype == x.dtype
    np.testing.assert_array_equal(found["same"], x)
    np.testing.assert_array_equal(found["across"], x.T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_shape_any_number_of_times(
    dtype: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    opened = transposed(tmp_path_factory.mktemp("m"), dtype)
    sizes = st.integers(1, 5)

    @settings(max_examples=30)
    @given(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=40))
    def run(shapes: list[tuple[int, int]]) -> None:
        for number, shape in enumerate(shapes):
            check(opened, (np.arange(np.prod(shape)) + number).reshape(shape).astype(dtype))

    run()


def test_strides_do_not_matter(tmp_path: Path) -> None:
    opened = transposed(tmp_path)
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    for x in (whole[:, ::2], whole[::-1, :3], np.asfortranarray(whole[:, :3]), whole[:, :3].copy()):
        for _ in range(3):
            check(opened, x)


def test_an_answer_is_the_callers(tmp_path: Path) -> None:
    opened = transposed(tmp_path)
    x = np.ones((2, 3), np.float32)
    kept = [opened.run({"x": x * number})["same"] for number in range(5)]
    for number, answer in enumerate(kept):
        np.testing.assert_array_equal(answer, x * number)
        answer += 1  # it is writable, and nobody else's
    check(opened, x)


def test_a_mistake_is_seen_after_many_right_calls(tmp_path: Path) -> None:
    opened = transposed(tmp_path)
    x = np.ones((2, 3), np.float32)
    for _ in range(3):
        check(opened, x)
    wrong: list[tuple[object, str]] = [
        ({"x": x.astype(np.float64)}, "is float64, expected float32"),
        ({"x": x.astype(">f4")}, "foreign byte order"),
        ({"x": x[0]}, "has 1 axes"),
        ({"x": [[1.0]]}, "is of type list"),
        ({"x": np.ma.masked_array(x, x > 0)}, "masked array"),
        ({"y": x}, "wrong input names"),
        ({"x": x, "y": x}, "unknown 'y'"),
        (x, "must be a mapping"),
    ]
    for inputs, said in wrong:
        with pytest.raises(InputError, match=said):
            opened.run(inputs)  # type: ignore[arg-type]
    check(opened, x)


def test_a_shape_that_depends_on_values_is_not_bound(tmp_path: Path) -> None:
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT64, [2, "k"])]
    opened = session(tmp_path, [helper.make_node("NonZero", ["x"], ["y"])], outputs, "float32")
    for count in (3, 3, 1, 0, 2, 3):
        x = np.array([[1, 1, 1]], np.float32)
        x[0, count:] = 0
        for _ in range(2):
            assert opened.run({"x": x})["y"].shape == (2, count)


def test_a_shape_that_the_file_declares_wrongly_is_an_answer_all_the_same(tmp_path: Path) -> None:
    """Declared as fixed by the input, but values decide: ONNX Runtime refuses the bound buffer."""
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT64, ["n", "m"])]
    opened = session(tmp_path, [helper.make_node("NonZero", ["x"], ["y"])], outputs, "float32")
    for count in (3, 3, 1, 1, 2, 0, 3):
        x = np.array([[1, 1, 1]], np.float32)
        x[0, count:] = 0
        assert opened.run({"x": x})["y"].shape == (2, count)


def test_large_tensors_are_not_kept(tmp_path: Path) -> None:
    opened = transposed(tmp_path)
    x = np.ones((1, LARGEST_BYTES // 4), np.float32)
    for _ in range(2):
        check(opened, x)
    assert not opened._bound._spare


class Named(np.ndarray[tuple[int, ...], np.dtype[np.float32]]):
    """An array of a class of its own, as memory maps are."""


@pytest.mark.parametrize("own_class", [True, False])
def test_calls_that_no_buffers_fit_keep_none(tmp_path: Path, own_class: bool) -> None:
    opened = transposed(tmp_path)
    dtype = np.dtype("float32").newbyteorder("<")
    assert dtype is not np.dtype("float32")
    x = np.frombuffer(np.arange(6, dtype=np.float32).tobytes(), dtype).reshape(2, 3)
    x = x.view(Named) if own_class else x
    for _ in range(20):
        check(opened, x)
    assert [len(free) for free in opened._bound._spare.values()] == [1]
    assert (opened._bound.run({"x": x}) is None) == own_class


def test_few_shapes_are_kept(tmp_path: Path) -> None:
    opened = transposed(tmp_path)
    for size in range(1, 300):
        check(opened, np.ones((size, 2), np.float32))
    assert len(opened._bound._spare) <= 128


def test_threads_have_buffers_of_their_own(tmp_path: Path) -> None:
    opened = transposed(tmp_path)

    def run(number: int) -> None:
        for round_ in range(200):
            check(opened, np.full((2 + number % 2, 3), number + round_, np.float32))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
