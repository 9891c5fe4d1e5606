from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeport.runtimes.serve.requests import DATATYPES, InferResponse
from edgeport.runtimes.serve.rpc import messages
from edgeport.runtimes.serve.rpc.encoding import encode

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=300)
numbers = st.sampled_from([dtype for dtype in DATATYPES if dtype != "object"]).flatmap(
    lambda dtype: hnp.arrays(dtype, shapes.filter(lambda shape: np.prod(shape) < 2000))
)


def expected(response: InferResponse) -> bytes:
    """The same, written by protobuf."""
    message = messages.ModelInferResponse(
        model_name=response.model,
        model_version=response.version,
        id=response.id,
        outputs=[
            {"name": name, "datatype": DATATYPES[array.dtype.name], "shape": array.shape}
            for name, array in response.outputs.items()
        ],
        raw_output_contents=[array.tobytes() for array in response.outputs.values()],
    )
    data: bytes = message.SerializeToString()
    return data


@settings(max_examples=40)
@given(st.dictionaries(st.text(min_size=1, max_size=5), numbers, max_size=3), st.text(max_size=300))
def test_it_is_what_protobuf_writes(outputs: dict[str, np.ndarray[Any, Any]], name: str) -> None:
    response = InferResponse("a model", "1", outputs, name)
    assert encode(response) == expected(response)


def test_an_answer_with_a_long_tensor_is_what_protobuf_writes() -> None:
    response = InferResponse("m", "12", {"y": np.arange(100_000, dtype=np.float32)}, "")
    assert encode(response) == expected(response)


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=300), max_size=5))
def test_bytes_have_their_lengths_in_front(strings: list[bytes]) -> None:
    array = np.empty(len(strings), object)
    array[:] = strings
    found = messages.ModelInferResponse.FromString(
        encode(InferResponse("m", "1", {"y": array}, ""))
    )
    assert found.outputs[0].datatype == "BYTES"
    assert list(found.outputs[0].shape) == [len(strings)]
    raw = b"".join(len(text).to_bytes(4, "little") + text for text in strings)
    assert list(found.raw_output_contents) == [raw]


def test_columns_are_not_written_as_rows() -> None:
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    found = messages.ModelInferResponse.FromString(
        encode(InferResponse("m", "1", {"y": array}, ""))
    )
    assert np.frombuffer(found.raw_output_contents[0], np.int32).tolist() == [0, 3, 1, 4, 2, 5]
