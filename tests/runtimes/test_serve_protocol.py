import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeport.runtimes import InputError, Signature, TensorSpec
from edgeport.runtimes.serve.protocol import (
    DATATYPES,
    InferRequest,
    model_metadata,
    parse_request,
    render_response,
)
from edgeport.runtimes.signature import DTYPES

EVERY = Signature(
    tuple(TensorSpec(dtype, dtype, ("n", 2)) for dtype in DTYPES),
    (TensorSpec("y", "float32", ("n", 2)), TensorSpec("z", "int64", ("n",))),
)


def body(dtype: str, data: object, shape: object = (1, 2), **more: object) -> bytes:
    tensor = {"name": dtype, "datatype": DATATYPES[dtype], "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def parsed(dtype: str, data: object, shape: object = (1, 2)) -> np.ndarray[Any, Any]:
    return parse_request(body(dtype, data, shape), EVERY).inputs[dtype]


def test_every_dtype_of_a_signature_has_a_datatype() -> None:
    assert list(DATATYPES) == list(DTYPES)
    assert " ".join(DATATYPES.values()) == (
        "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64"
    )


arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


@settings(max_examples=60)
@given(arrays, st.booleans())
def test_an_array_survives_the_way_there_and_back(
    array: np.ndarray[Any, Any], nested: bool
) -> None:
    dtype = array.dtype.name
    data = array.tolist() if nested and array.ndim else array.ravel().tolist()
    there = parse_request(body(dtype, data, array.shape), EVERY)
    request = InferRequest(there.inputs, (dtype,), "7")
    back = json.loads(render_response("m", request, there.inputs))
    assert back["id"] == "7"
    found = parse_request(json.dumps({"inputs": back["outputs"]}).encode(), EVERY).inputs[dtype]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array, strict=True)


def test_a_row_may_be_flat_or_nested() -> None:
    np.testing.assert_array_equal(
        parsed("float32", [1, 2.5, 3, 4], (2, 2)), parsed("float32", [[1, 2.5], [3, 4]], (2, 2))
    )


def test_nan_and_infinity_are_numbers_both_ways() -> None:
    array = parsed("float32", [float("nan"), float("-inf")])
    assert b"[NaN,-Infinity]" in render_response("m", InferRequest({}, ("y",)), {"y": array})


@pytest.mark.parametrize("dtype", [d for d in DTYPES if "int" in d])
def test_the_ends_of_an_integer_type_fit_and_one_more_does_not(dtype: str) -> None:
    limits = np.iinfo(dtype)
    assert parsed(dtype, [limits.min, limits.max]).tolist() == [[limits.min, limits.max]]
    for value in (limits.min - 1, limits.max + 1):
        with pytest.raises(
            InputError, match=f"^input {dtype!r} holds {value}, which {DATATYPES[dtype]} cannot"
        ):
            parsed(dtype, [0, value])


@pytest.mark.parametrize(
    ("dtype", "value"), [("float16", 7e4), ("float32", 1e39), ("float64", 10**400)]
)
def test_a_float_that_would_become_infinite_is_refused(dtype: str, value: float) -> None:
    with pytest.raises(InputError, match=f"which {DATATYPES[dtype]} cannot hold"):
        parsed(dtype, [0, value])


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("float32", True, "value 1 of input 'float32' is true, expected a number"),
        ("float32", "2", """is "2", expected a number"""),
        ("float32", None, "is null, expected a number"),
        ("float32", [2], "is a list, expected a number"),
        ("int64", 2.0, "is 2.0, expected an integer"),
        ("int64", True, "is true, expected an integer"),
        ("bool", 1, "is 1, expected true or false"),
        ("bool", "x" * 99, r"xxx\.\.\., expected true or false"),
    ],
)
def test_values_of_another_type_are_refused(dtype: str, value: object, message: str) -> None:
    first: object = True if dtype == "bool" else 1
    with pytest.raises(InputError, match=message):
        parsed(dtype, [first, value])


def test_shapes_that_numpy_cannot_hold_are_refused() -> None:
    with pytest.raises(InputError, match="cannot have shape"):
        parsed("float32", [], (0, 2**31 - 1, 2**31 - 1, 2**31 - 1))
    with pytest.raises(InputError, match="is a list, expected at most 32 sizes"):
        parsed("float32", [1], (1,) * 33)


def test_depth_is_counted_outside_strings_only() -> None:
    brackets = '"' + r"\"" + "[" * 100
    request = parse_request(body("float32", [1, 2], id=brackets), EVERY)
    assert request.id == brackets
    deep = "[" * 63 + "]" * 63
    assert parse_request(b'{"parameters":{"a":1},"x":%b,"inputs":[]}' % deep.encode(), EVERY)
    with pytest.raises(InputError, match="nested deeper than 64 levels"):
        parse_request(b'{"x":[%b],"inputs":[]}' % deep.encode(), EVERY)


@pytest.mark.parametrize("hostile", [b"[" * 200_000, b'"' * 300_001, b'{"a":"' + b'\\"[' * 100_000])
def test_hostile_bodies_are_refused_in_linear_time(hostile: bytes) -> None:
    with pytest.raises(InputError, match=r"nested deeper|not valid JSON"):
        parse_request(hostile, EVERY)


def test_what_is_not_asked_for_is_not_answered() -> None:
    both = parse_request(body("float32", [1, 2], outputs=None, id=None, parameters=None), EVERY)
    assert (both.outputs, both.id) == (("y", "z"), None)
    one = parse_request(body("float32", [1, 2], outputs=[{"name": "z"}]), EVERY)
    answer = json.loads(render_response("m", one, {"z": np.arange(2), "y": np.zeros(1)}))
    assert answer == {
        "model_name": "m",
        "model_version": "1",
        "outputs": [{"name": "z", "datatype": "INT64", "shape": [2], "data": [0, 1]}],
    }


def test_metadata_shows_free_dimensions_as_minus_one() -> None:
    metadata = model_metadata("m", "onnxruntime_onnx", EVERY)
    assert metadata["inputs"][-2] == {"name": "float32", "datatype": "FP32", "shape": [-1, 2]}
    assert metadata["versions"] == ["1"]
