import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeport.runtimes import InputError
from edgeport.runtimes.serve.requests import DATATYPES, Wanted
from edgeport.runtimes.serve.rpc import messages
from edgeport.runtimes.serve.rpc.tensors import _CONTENTS, read_request

numbers = st.sampled_from([dtype for dtype in DATATYPES if dtype != "object"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


def tensor(array: np.ndarray[Any, Any], **more: Any) -> dict[str, Any]:
    datatype = DATATYPES[array.dtype.name]
    return {"name": "x", "datatype": datatype, "shape": array.shape, **more}


def request(*tensors: dict[str, Any], raw: Any = (), **more: Any) -> Any:
    return messages.ModelInferRequest(
        model_name="m", inputs=tensors, raw_input_contents=raw, **more
    )


@settings(max_examples=40)
@given(numbers)
def test_raw_tensors_arrive_as_they_are(array: np.ndarray[Any, Any]) -> None:
    message = request(tensor(array), raw=[array.tobytes()])
    found = read_request(message, None).inputs["x"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array, strict=True)


@settings(max_examples=40)
@given(numbers.filter(lambda array: array.dtype != "float16"))
def test_typed_tensors_arrive_as_they_are(array: np.ndarray[Any, Any]) -> None:
    field = _CONTENTS[DATATYPES[array.dtype.name]]
    message = request(tensor(array, contents={field: array.ravel().tolist()}))
    found = read_request(message, None).inputs["x"]
    np.testing.assert_array_equal(found, array, strict=True)


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=20), max_size=4), st.booleans())
def test_strings_arrive_as_they_are(strings: list[bytes], raw: bool) -> None:
    entry = {"name": "x", "datatype": "BYTES", "shape": [len(strings)]}
    data = b"".join(struct.pack("<I", len(text)) + text for text in strings)
    typed = entry | {"contents": {"bytes_contents": strings}}
    message = request(entry, raw=[data]) if raw else request(typed)
    assert read_request(message, None).inputs["x"].tolist() == strings


@pytest.mark.parametrize("raw", [True, False])
def test_strings_that_are_too_many_are_refused(raw: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeport.runtimes.serve.bytes_tensor.MOST_ELEMENTS", 2)
    entry = {"name": "x", "datatype": "BYTES", "shape": [3]}
    typed = request(entry | {"contents": {"bytes_contents": [b""] * 3}})
    with pytest.raises(InputError, match="input 'x' has 3 strings, at most 2 are read"):
        read_request(request(entry, raw=[bytes(12)]) if raw else typed, None)


def test_all_that_is_asked_arrives() -> None:
    message = request(
        outputs=[
            {"name": "y", "parameters": {"classification": {"int64_param": 3}}},
            {"name": "z", "parameters": {"binary_data": {"bool_param": True}}},
            {"name": "w"},
        ],
        id="7",
        model_version="2",
        parameters={
            "timeout": {"int64_param": 5},
            "note": {"string_param": "a"},
            "share": {"double_param": 0.5},
            "empty": {},
        },
    )
    found = read_request(message, 12.5)
    assert found.outputs == [Wanted("y", 3), Wanted("z"), Wanted("w")]
    assert (found.model, found.version, found.id, found.deadline) == ("m", "2", "7", 12.5)
    assert found.parameters == {"timeout": 5, "note": "a", "share": 0.5}


FP32 = {"name": "x", "datatype": "FP32", "shape": [2]}
EIGHT = [bytes(8)]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (request(FP32, raw=[*EIGHT, *EIGHT]), "2 raw_input_contents for 1 inputs"),
        (request(FP32, FP32, raw=[*EIGHT, *EIGHT]), "input 'x' is given twice"),
        (request(FP32, raw=[bytes(7)]), r"input 'x' has 7 bytes, its shape \[2\] of FP32 needs 8"),
        (request(FP32, raw=[bytes(9)]), "input 'x' has 9 bytes"),
        (
            request(FP32 | {"contents": {"fp32_contents": [1, 2]}}, raw=EIGHT),
            "input 'x' has typed contents, and raw_input_contents are given too",
        ),
        (request(FP32 | {"shape": [-1]}, raw=EIGHT), "the shape of input 'x' holds -1"),
        (request(FP32 | {"shape": [2**62, 4]}, raw=EIGHT), "the shape of input 'x' holds 46116"),
        (request(FP32 | {"shape": [1] * 33}, raw=EIGHT), "input 'x' has 33 dimensions"),
        (
            request(FP32 | {"shape": [0, 2**31 - 1, 2**31 - 1, 9]}, raw=[b""]),
            "'x' cannot have shape",
        ),
        (
            request(FP32 | {"datatype": "BF16"}, raw=EIGHT),
            "input 'x' has datatype 'BF16', expected",
        ),
        (request(FP32 | {"datatype": ""}), "input 'x' has datatype ''"),
        (
            request({"name": "x", "datatype": "BOOL", "shape": [2]}, raw=[b"\1\2"]),
            "input 'x' is BOOL and holds 2",
        ),
        (
            request(FP32 | {"datatype": "FP16", "contents": {"fp32_contents": [1, 2]}}),
            "input 'x' is FP16, which has no typed contents",
        ),
        (
            request(FP32 | {"contents": {"fp64_contents": [1, 2]}}),
            "input 'x' is FP32, and has 2 values in fp64_contents",
        ),
        (request(FP32), r"input 'x' has 0 values, its shape \[2\] needs 2"),
        (
            request(FP32 | {"contents": {"fp32_contents": [1, 2, 3]}}),
            "input 'x' has 3 values",
        ),
        (
            request(FP32 | {"datatype": "INT8", "contents": {"int_contents": [1, 128]}}),
            "input 'x' holds 128, which INT8 cannot hold",
        ),
        (
            request(FP32 | {"datatype": "INT16", "contents": {"int_contents": [-32769, 1]}}),
            "input 'x' holds -32769, which INT16 cannot hold",
        ),
        (
            request(FP32 | {"datatype": "UINT8", "contents": {"uint_contents": [256, 1]}}),
            "input 'x' holds 256, which UINT8 cannot hold",
        ),
        (
            request(FP32 | {"datatype": "BYTES"}, raw=[b"\4\0\0\0abc" + b"\0\0\0\0"]),
            "BYTES input 'x': element 1 has no length",
        ),
        (
            request(FP32 | {"datatype": "BYTES", "shape": [1]}, raw=[b"\1\0\0\0a\0"]),
            "1 bytes are left behind its 1 elements",
        ),
        (
            request(FP32 | {"parameters": {"shared_memory_region": {"string_param": "r"}}}),
            "'x' asks for shared memory",
        ),
        (
            request(outputs=[{"name": "y", "parameters": {"shared_memory_region": {}}}]),
            "'y' asks for shared memory",
        ),
        (
            request(
                outputs=[{"name": "y", "parameters": {"classification": {"string_param": "3"}}}]
            ),
            "output 'y': classification is '3'",
        ),
        (
            request(outputs=[{"name": "y", "parameters": {"classification": {"int64_param": -1}}}]),
            "output 'y': classification is -1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(message: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        read_request(message, None)
