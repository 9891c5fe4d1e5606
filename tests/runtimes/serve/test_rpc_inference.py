"""Inference over gRPC, with Google's own client and real engines."""

import struct
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from rpc_served import CODE, INFERENCE, Make, draw, logits, refusal, request_for

from edgeport.runtimes import open as open_bundle
from edgeport.runtimes.serve.requests import InferResponse
from edgeport.runtimes.serve.rpc import inference, messages
from edgeport.runtimes.serve.rpc.encoding import encode
from edgeport.runtimes.serve.work import Bounds


def test_the_answer_is_that_of_the_session(make: Make, packed: Path) -> None:
    server, x = make(), draw(5)
    response = server.infer(x, id="ünïcode")
    assert (response.model_name, response.model_version, response.id) == ("mlp", "1", "ünïcode")
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("logits", "FP32", [5, 3]),
        ("label", "INT64", [5]),
    ]
    with open_bundle(packed, threads=1) as session:
        expected = session.run({"x": x})
    np.testing.assert_array_equal(logits(response), expected["logits"])
    label = np.frombuffer(response.raw_output_contents[1], np.int64)
    np.testing.assert_array_equal(label, expected["label"])


def test_a_part_of_the_outputs_and_the_best_classes(make: Make) -> None:
    server, x = make(), draw(2)
    best = {"name": "logits", "parameters": {"classification": {"int64_param": 2}}}
    response = server.infer(x, outputs=[best])
    (output,) = response.outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [2, 2])
    (raw,) = response.raw_output_contents
    (size,) = struct.unpack_from("<I", raw)
    value, index = raw[4 : 4 + size].split(b":")
    scores = logits(server.infer(x))
    assert int(index) == scores[0].argmax()
    assert float(value) == pytest.approx(scores[0].max(), abs=1e-5)


def test_compressed_requests_get_compressed_answers(make: Make) -> None:
    server, x = make(), draw(64)
    plain = logits(server.infer(x))
    for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        np.testing.assert_array_equal(logits(server.infer(x, compression=algorithm)), plain)


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        ({"model_name": "nothing"}, CODE.NOT_FOUND, "no model is named 'nothing'"),
        ({"model_version": "9"}, CODE.NOT_FOUND, "has no version '9'"),
        ({"inputs": []}, CODE.INVALID_ARGUMENT, "1 raw_input_contents for 0 inputs"),
        ({"raw_input_contents": [b""]}, CODE.INVALID_ARGUMENT, "'x' has 0 bytes"),
        ({"raw_input_contents": []}, CODE.INVALID_ARGUMENT, "'x' has 0 values"),
        ({"outputs": [{"name": "a"}]}, CODE.INVALID_ARGUMENT, "no output 'a'"),
        (
            {"parameters": {"timeout": {"string_param": "abc"}}},
            CODE.INVALID_ARGUMENT,
            'the timeout of the request is "abc"',
        ),
        (
            {"parameters": {"timeout": {"double_param": float("nan")}}},
            CODE.INVALID_ARGUMENT,
            "the timeout of the request is",
        ),
    ],
)
def test_mistakes_are_told(make: Make, more: dict[str, Any], code: Any, text: str) -> None:
    found, details = refusal(lambda: make().infer(draw(1), **more))
    assert found is code
    assert text in details


def test_a_long_request_is_received_whole(make: Make) -> None:
    """20 MB, in pieces; the model takes 64 rows at a time."""
    code, text = refusal(lambda: make().infer(draw(600_000)))
    assert code is CODE.INVALID_ARGUMENT
    assert "600000" in text


def test_a_stream_answers_in_order_and_survives_a_mistake(make: Make) -> None:
    server = make()
    stream = server.channel.stream_stream(
        f"/{INFERENCE}/ModelStreamInfer",
        messages.ModelInferRequest.SerializeToString,
        messages.ModelStreamInferResponse.FromString,
    )
    requests = [request_for(draw(1 + index % 7, index), id=str(index)) for index in range(40)]
    requests[7].model_name = "nothing"
    found = list(stream(iter(requests), timeout=30))
    assert [message.infer_response.id for message in found] == [str(i) for i in range(40)]
    assert "no model is named 'nothing'" in found[7].error_message
    for index, message in enumerate(found):
        if index != 7:
            one = server.infer(draw(1 + index % 7, index))
            np.testing.assert_allclose(logits(message.infer_response), logits(one), rtol=1e-4)
    assert list(stream(iter([]), timeout=9)) == []


def test_an_answer_that_cannot_be_written_keeps_its_place_in_the_stream(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(response: InferResponse) -> bytes:
        if response.id == "1":
            raise ValueError("no")
        return encode(response)

    monkeypatch.setattr(inference, "encode", refusing)
    stream = make().channel.stream_stream(
        f"/{INFERENCE}/ModelStreamInfer",
        messages.ModelInferRequest.SerializeToString,
        messages.ModelStreamInferResponse.FromString,
    )
    requests = [request_for(draw(1), id=str(index)) for index in range(3)]
    found = list(stream(iter(requests), timeout=30))
    assert [message.infer_response.id for message in found] == ["0", "1", "2"]
    assert found[1].error_message.startswith("the answer cannot be written")


def test_a_deadline_that_is_over_is_told(make: Make) -> None:
    server = make(bounds=Bounds(delay_s=0.3))
    assert refusal(lambda: server.infer(draw(1), timeout=0.05))[0] is CODE.DEADLINE_EXCEEDED
    assert server.infer(draw(1)).model_name == "mlp"


def test_calls_of_many_clients_at_once_get_their_own_answers(make: Make) -> None:
    server = make()
    call = server.channel.unary_unary(
        f"/{INFERENCE}/ModelInfer",
        messages.ModelInferRequest.SerializeToString,
        messages.ModelInferResponse.FromString,
    )
    inputs = [draw(1 + index % 3, index) for index in range(200)]
    pending = [call.future(request_for(x, id=str(i)), timeout=30) for i, x in enumerate(inputs)]
    for index, (x, future) in enumerate(zip(inputs, pending, strict=True)):
        response = future.result()
        assert response.id == str(index)
        np.testing.assert_allclose(logits(response), logits(server.infer(x)), rtol=1e-4, atol=1e-6)


def test_overload_is_resource_exhausted(make: Make) -> None:
    server = make(bounds=Bounds(rows=8))
    call = server.channel.unary_unary(f"/{INFERENCE}/ModelInfer")
    data = request_for(draw(8)).SerializeToString()
    codes = [future.code() for future in [call.future(data, timeout=30) for _ in range(200)]]
    assert set(codes) <= {CODE.OK, CODE.RESOURCE_EXHAUSTED}
    assert CODE.OK in codes
