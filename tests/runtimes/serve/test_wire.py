"""Requests and answers as bytes: what goes in comes out, and what is wrong is named."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeport.runtimes import InputError, Signature, TensorSpec
from edgeport.runtimes.serve.requests import DATATYPES, InferRequest, InferResponse, Wanted
from edgeport.runtimes.serve.templates import Reader
from edgeport.runtimes.serve.wire import Parsed, parse_request, render_response
from edgeport.runtimes.signature import DTYPES

Array = np.ndarray[Any, Any]

EVERY = Signature(
    tuple(TensorSpec(dtype, dtype, ("n", 2)) for dtype in DTYPES),
    (TensorSpec("y", "float32", ("n", 2)), TensorSpec("z", "int64", ("n",))),
)
TEXT = Signature(
    (TensorSpec("text", "int32", ("n", "characters")),), (TensorSpec("y", "float32", ("n",)),)
)


def tensor(dtype: str, data: object, shape: object = (1, 2), **more: object) -> dict[str, Any]:
    return {"name": dtype, "datatype": DATATYPES[dtype], "shape": shape, "data": data, **more}


def body(dtype: str, data: object, shape: object = (1, 2), **more: object) -> bytes:
    return json.dumps({"inputs": [tensor(dtype, data, shape)], **more}).encode()


def parse(data: bytes, json_length: int | None = None) -> Parsed:
    return parse_request(data, "m", "", EVERY, json_length=json_length)


def parsed(dtype: str, data: object, shape: object = (1, 2)) -> Array:
    return parse(body(dtype, data, shape)).request.inputs[dtype]


def render(outputs: dict[str, Array], asked: Parsed | None = None) -> tuple[bytes, int | None]:
    asked = asked or Parsed(InferRequest("m", {}), {}, False)
    answer = InferResponse("m", "1", outputs, "")
    parts, length = render_response(asked, answer)
    return b"".join(parts), length


def test_every_dtype_of_a_signature_has_a_datatype() -> None:
    assert list(DATATYPES) == [*DTYPES, "object"]
    assert " ".join(DATATYPES.values()) == (
        "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BYTES"
    )


arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


# ---- JSON


@settings(max_examples=60)
@given(arrays, st.booleans())
def test_an_array_survives_the_way_there_and_back(array: Array, nested: bool) -> None:
    dtype = array.dtype.name
    data = array.tolist() if nested and array.ndim else array.ravel().tolist()
    there = parse(body(dtype, data, array.shape, id="7"))
    assert there.request.id == "7"
    back = json.loads(render(dict(there.request.inputs), there)[0])
    assert back["id"] == "7"
    found = parse(json.dumps({"inputs": back["outputs"]}).encode()).request.inputs[dtype]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array, strict=True)


def test_a_row_may_be_flat_or_nested() -> None:
    np.testing.assert_array_equal(
        parsed("float32", [1, 2.5, 3, 4], (2, 2)), parsed("float32", [[1, 2.5], [3, 4]], (2, 2))
    )


@pytest.mark.parametrize("size", [6, 7, 9])
def test_what_is_written_in_parts_is_the_same(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.arange(size, dtype=np.float32) / 3
    array[4] = np.nan
    texts = np.array([b"a,]["] * size, object)
    monkeypatch.setattr("edgeport.runtimes.serve.wire._MOST_AT_ONCE", 3)
    answer, _ = render({"y": array, "z": np.arange(size), "texts": texts})
    outputs = json.loads(answer)["outputs"]
    np.testing.assert_array_equal(np.float32(outputs[0]["data"]), array)
    assert outputs[1]["data"] == list(range(size))
    assert outputs[2]["data"] == ["a,]["] * size


def test_nan_and_infinity_are_numbers_both_ways() -> None:
    array = parsed("float32", [float("nan"), float("-inf")])
    assert b"[NaN,-Infinity]" in render({"y": array})[0]


@pytest.mark.parametrize("dtype", [d for d in DTYPES if "int" in d])
def test_the_ends_of_an_integer_type_fit_and_one_more_does_not(dtype: str) -> None:
    limits = np.iinfo(dtype)
    assert parsed(dtype, [limits.min, limits.max]).tolist() == [[limits.min, limits.max]]
    for value in (limits.min - 1, limits.max + 1):
        with pytest.raises(
            InputError,
            match=f"^(input {dtype!r} holds {value}, which {DATATYPES[dtype]} cannot"
            "|value 1 of input .* is .*e[+]1[89], expected an integer)",  # beyond 64 bits
        ):
            parsed(dtype, [0, value])


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float16", 7e4),
        ("float32", 1e39),
        ("float32", 1e300),  # its square is no float64
        ("float64", 10**400),
    ],
)
def test_a_float_that_would_become_infinite_is_refused(dtype: str, value: float) -> None:
    with pytest.raises(InputError, match=f"which {DATATYPES[dtype]} cannot hold"):
        parsed(dtype, [0, value])
    with pytest.raises(InputError, match="the number 1e999 is too large"):
        parse(body(dtype, [0, 1]).replace(b"[0, 1]", b"[0, 1e999]"))


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


def test_a_key_that_comes_twice_is_refused_wherever_it_is() -> None:
    good = body("float32", [1, 2])
    for twice in (
        good.replace(b'{"inputs"', b'{"inputs": [], "inputs"'),
        good.replace(b'"shape"', b'"shape": [2, 1], "shape"'),
        good.replace(b'"data"', b'"d\\u0061ta": [3, 4], "data"'),
    ):
        assert twice != good
        with pytest.raises(InputError, match=r"the key '[a-z]+' appears twice in one object"):
            parse(twice)


def test_a_key_that_comes_twice_among_very_many_is_found_at_once() -> None:
    many = b",".join(b'"%d":0' % key for key in (*range(100_000), 99_999))  # squared: minutes
    with pytest.raises(InputError, match="the key '99999' appears twice in one object"):
        parse(b"{%b}" % many)


def test_depth_is_counted_outside_strings_only() -> None:
    brackets = '"' + r"\"" + "[" * 100
    assert parse(body("float32", [1, 2], id=brackets)).request.id == brackets
    deep = "[" * 63 + "]" * 63
    assert parse(b'{"parameters":{"a":1},"x":%b,"inputs":[]}' % deep.encode())
    for surplus in (b"[%b]" % deep.encode(), b'["]]]]",%b]' % deep.encode()):
        with pytest.raises(InputError, match="nested deeper than 64 levels"):
            parse(b'{"x":%b,"inputs":[]}' % surplus)


@pytest.mark.parametrize("hostile", [b"[" * 200_000, b'"' * 300_001, b'{"a":"' + b'\\"[' * 100_000])
def test_hostile_bodies_are_refused_in_linear_time(hostile: bytes) -> None:
    with pytest.raises(InputError, match=r"nested deeper|not valid JSON"):
        parse(hostile)


def test_what_is_not_asked_for_is_not_asked_of_the_model() -> None:
    both = parse(body("float32", [1, 2], outputs=None, id=None, parameters=None)).request
    assert (both.outputs, both.id) == ([], "")
    one = parse(body("float32", [1, 2], outputs=[{"name": "z"}])).request
    assert one.outputs == [Wanted("z")]
    answer, length = render({"z": np.arange(2)})
    assert (json.loads(answer), length) == (
        {
            "model_name": "m",
            "model_version": "1",
            "outputs": [{"name": "z", "datatype": "INT64", "shape": [2], "data": [0, 1]}],
        },
        None,
    )


# ---- binary


def binary(
    *tensors: tuple[str, str, Any, bytes], outputs: Any = None, **parameters: Any
) -> tuple[bytes, int]:
    entries = [
        {"name": n, "datatype": d, "shape": s, "parameters": {"binary_data_size": len(data)}}
        for n, d, s, data in tensors
    ]
    head = json.dumps({"inputs": entries, "outputs": outputs, "parameters": parameters}).encode()
    return head + b"".join(data for *_, data in tensors), len(head)


@settings(max_examples=60)
@given(arrays)
def test_a_binary_array_survives_the_way_there_and_back(array: Array) -> None:
    dtype = array.dtype.name
    sent = (dtype, DATATYPES[dtype], list(array.shape), array.tobytes())
    asked = parse(*binary(sent, binary_data_output=True))
    found = asked.request.inputs[dtype]
    np.testing.assert_array_equal(found, array, strict=True)
    answer, length = render({dtype: found}, asked)
    assert length is not None
    (output,) = json.loads(answer[:length])["outputs"]
    assert output == {
        "name": dtype,
        "datatype": DATATYPES[dtype],
        "shape": list(array.shape),
        "parameters": {"binary_data_size": array.nbytes},
    }
    assert answer[length:] == array.tobytes()


def test_an_output_that_says_how_it_is_wanted_has_the_last_word() -> None:
    data = np.zeros(2, np.float32).tobytes()
    outputs = [{"name": "y", "parameters": {"binary_data": False}}, {"name": "z"}]
    asked = parse(
        *binary(("float32", "FP32", [1, 2], data), outputs=outputs, binary_data_output=True)
    )
    answer, length = render({"y": np.ones(1, np.float32), "z": np.arange(1)}, asked)
    y, z = json.loads(answer[:length])["outputs"]
    assert (y["data"], z["parameters"]) == ([1.0], {"binary_data_size": 8})


FP32 = np.array([[1, 2]], np.float32).tobytes()


@pytest.mark.parametrize(
    ("data", "length", "message"),
    [
        (b"{}", 3, "the JSON is said to have 3 bytes, the body has 2"),
        (*binary(("float32", "FP32", [2, 2], FP32)), "has 8 bytes of binary data, its shape"),
        (*binary(("float32", "FP32", [1, 2], FP32[:7])), "has 7 bytes of binary data"),
        (binary(("float32", "FP32", [1, 2], FP32))[0] + b"x", 127, "1 bytes of the body belong"),
        (*binary(("bool", "BOOL", [1, 2], b"\x01\x02")), "a BOOL byte that is neither 0 nor 1"),
        (*binary(("float32", "BF16", [1, 2], FP32[:4])), 'has datatype "BF16", expected FP32'),
        (*binary(("float32", "FP32", [10**9, 2], FP32)), "needs 8000000000"),
    ],
)  # fmt: skip
def test_wrong_binary_data_are_named(data: bytes, length: int, message: str) -> None:
    if length == 127:
        length = len(data) - len(FP32) - 1
    with pytest.raises(InputError) as caught:
        parse(data, length)
    assert message in caught.value.problem


@pytest.mark.parametrize("size", [-1, 9, True, 8.0, "8", None])
def test_a_wrong_binary_size_is_named(size: object) -> None:
    entry = tensor("float32", None, parameters={"binary_data_size": size})
    del entry["data"]
    head = json.dumps({"inputs": [entry]}).encode()
    with pytest.raises(InputError, match=r"binary_data_size of input|bytes of binary data, and 8"):
        parse(head + FP32, len(head))


def test_data_and_binary_data_together_are_refused() -> None:
    head = json.dumps(
        {"inputs": [tensor("float32", [1, 2], parameters={"binary_data_size": 8})]}
    ).encode()
    with pytest.raises(InputError, match="has both 'data' and binary_data_size"):
        parse(head + FP32, len(head))


def test_a_body_without_json_is_the_one_input() -> None:
    one = Signature((TensorSpec("x", "float32", ("n", 2)),), EVERY.outputs)
    asked = parse_request(FP32 * 3, "m", "", one, json_length=0)
    assert asked.request.inputs["x"].tolist() == [[1, 2]] * 3
    assert render({"y": np.zeros(1, np.float32)}, asked)[1] is not None
    with pytest.raises(InputError, match=r"the body has 7 bytes, .* needs a multiple of 8"):
        parse_request(FP32[:7], "m", "", one, json_length=0)
    with pytest.raises(InputError, match="makes the body the one input, and this model takes"):
        parse(FP32, 0)


# ---- BYTES


def packed(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def text_request(data: bytes, length: int | None = None) -> Parsed:
    return parse_request(data, "m", "", TEXT, frozenset({"text"}), length)


def test_a_shape_of_no_texts_that_numpy_cannot_have_is_named() -> None:
    with pytest.raises(InputError, match="input 'text' cannot have shape"):
        text_request(*binary(("text", "BYTES", [0, 2**31 - 1, 2**31 - 1], b"")))


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=4))
def test_texts_survive_in_json_and_in_binary(texts: list[str]) -> None:
    encoded = [text.encode() for text in texts]
    entry = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    plain = text_request(json.dumps({"inputs": [entry]}, ensure_ascii=False).encode())
    assert plain.request.inputs["text"].tolist() == encoded
    asked = text_request(
        *binary(("text", "BYTES", [len(texts)], packed(*encoded)), binary_data_output=True)
    )
    found = asked.request.inputs["text"]
    assert found.tolist() == encoded
    answer, length = render({"text": found}, asked)
    assert answer[length:] == packed(*encoded)


def test_what_is_no_text_goes_into_json_as_base64() -> None:
    """As MLServer has it; a file of an image has no other way into JSON."""
    entry: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [2]}
    entry |= {"data": ["/9j/", "AA=="], "parameters": {"content_type": "base64"}}
    asked = text_request(json.dumps({"inputs": [entry]}).encode())
    assert asked.request.inputs["text"].tolist() == [b"\xff\xd8\xff", b"\0"]
    for wrong in ("data:image/png;base64,/9j/", "/9j", "ä"):
        entry |= {"data": ["AA==", wrong]}
        with pytest.raises(InputError, match="string 1 of input 'text' is not base64: "):
            text_request(json.dumps({"inputs": [entry]}).encode())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (packed(b"ab")[:-1], "element 0 is longer than the data"),
        (packed(b"ab") + b"x", "1 bytes are left behind its 1 elements"),
        (b"\xff\xff\xff\xff" + b"a", "element 0 is longer than the data"),
        (b"", "0 bytes cannot hold 1 elements"),
    ],
)
def test_damaged_bytes_are_named(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        text_request(*binary(("text", "BYTES", [1], data)))


def test_a_string_that_is_no_text_is_refused() -> None:
    entry = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["\ud800"]}
    with pytest.raises(InputError, match=r"half a surrogate pair|not valid JSON"):
        text_request(json.dumps({"inputs": [entry]}).encode())
    with pytest.raises(InputError, match='has datatype "FP32", expected INT32 or BYTES'):
        text_request(body("float32", [1, 2]).replace(b'"float32"', b'"text"'))


# ---- requests like an earlier one


def reader() -> Reader:
    return Reader("m", EVERY, frozenset())


@settings(max_examples=80)
@given(
    hnp.arrays("float32", (2, 2), elements=st.floats(width=32)),
    st.sampled_from(["float32", "float64", "int16"]),
    st.booleans(),
)
def test_a_request_like_an_earlier_one_means_the_same(
    array: Array, dtype: str, nested: bool
) -> None:
    read = reader()
    with np.errstate(invalid="ignore"):
        values = array.astype(dtype)
    for data in (np.ones((2, 2), dtype), values):
        text = body(dtype, (data if nested else data.ravel()).tolist(), (2, 2))
        found, expected = read.read(text, "", None), parse(text)
        np.testing.assert_array_equal(
            found.request.inputs[dtype], expected.request.inputs[dtype], strict=True
        )
        assert found[1:] == expected[1:]
        again = binary((dtype, DATATYPES[dtype], [2, 2], data.tobytes()))
        np.testing.assert_array_equal(read.read(again[0], "", again[1]).request.inputs[dtype], data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("[1, 2, 3]", "has 3 values, its shape [1, 2] needs 2"),
        ("[1]", "has 1 values"),
        ("[]", "has 0 values"),
        ("[1, true]", "value 1 of input 'float32' is true"),
        ("[1, null]", "value 1 of input 'float32' is null"),
        ('[1, "2"]', """value 1 of input 'float32' is "2\""""),
        ("[1, [2]]", "value 1 of input 'float32' is a list"),
        ("[[1], [2]]", "a row of axis 0 has not 1 entries"),
        ("[1, 1e39]", "holds 1e+39, which FP32 cannot hold"),
        ("[1, 2,]", "not valid JSON"),
        ("[1 2]", "not valid JSON"),
        ("[1, 2], 3", "not valid JSON"),
        ("[1, 2], [3]", "not valid JSON"),
        ("[1, 01]", "not valid JSON"),
        ("[1, +1]", "not valid JSON"),
        ("1, 2]", "not valid JSON"),
        ("null", "the data of input 'float32' is null"),
    ],
)
def test_data_that_are_wrong_are_wrong_the_second_time_too(data: str, message: str) -> None:
    read = reader()
    good = body("float32", [1, 2])
    assert read.read(good, "", None).request.inputs["float32"].tolist() == [[1, 2]]
    with pytest.raises(InputError) as caught:
        read.read(good.replace(b"[1, 2]}", data.encode() + b"}"), "", None)
    assert message in caught.value.problem
    wrong, length = binary(("float32", "FP32", [1, 2], FP32))
    assert read.read(wrong, "", length).request.inputs["float32"].tolist() == [[1, 2]]
    for cut in (wrong[:-1], wrong + b"x"):
        with pytest.raises(InputError):
            read.read(cut, "", length)


def test_data_in_front_of_the_shape_and_strings_named_data_are_no_trap() -> None:
    read = reader()
    for values in ([1, 2], [3, 4]):
        front = (
            '{"parameters": {"data": "\\"data\\": [5, 6]"}, "inputs": [{"data": '
            f'{values}, "name": "float32", "shape": [1, 2], "datatype": "FP32"}}]}}'
        )
        assert read.read(front.encode(), "", None).request.inputs["float32"].tolist() == [values]


@pytest.mark.parametrize("in_json", [True, False])
def test_strings_that_are_too_many_are_refused(
    in_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeport.runtimes.serve.bytes_tensor.MOST_ELEMENTS", 2)
    entry = {"name": "text", "datatype": "BYTES", "shape": [3], "data": ["a"] * 3}
    body, length = binary(("text", "BYTES", [3], packed(b"a", b"a", b"a")))
    with pytest.raises(InputError, match="input 'text' has 3 strings, at most 2 are read"):
        text_request(json.dumps({"inputs": [entry]}).encode() if in_json else body,
                     None if in_json else length)  # fmt: skip
