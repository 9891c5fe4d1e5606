"""``edgeport serve --grpc-port``: the whole server, as a process, and Google's client."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from served import DEADLINE_S, WEIGHT, digits, photo, picky, run_serve, serving, stiff

from edgeport.runtimes.serve.requests import DATATYPE_OF
from edgeport.runtimes.serve.rpc import messages

X = np.array([[0.5, -1, 2, 0], [1, 1, 1, 1]], np.float32)


def infer(port: int, model: str = "digits", name: str = "x", data: Any = X) -> Any:
    request = messages.ModelInferRequest(
        model_name=model,
        inputs=[{"name": name, "datatype": DATATYPE_OF[data.dtype], "shape": data.shape}],
        raw_input_contents=[data.tobytes()],
    )
    return call(port, request)


def call(port: int, request: Any) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            messages.ModelInferRequest.SerializeToString,
            messages.ModelInferResponse.FromString,
        )
        return method(request, timeout=30)


@pytest.mark.parametrize("workers", [1, 2])
def test_both_ports_answer_and_count_together(tmp_path: Path, workers: int) -> None:
    with serving(digits(tmp_path), "--grpc-port", 0, "--workers", workers) as server:
        assert server.process.stdout
        line = server.process.stdout.readline()
        port = re.fullmatch(r"gRPC on 127\.0\.0\.1:(\d+)\n", line)
        assert port, line
        for _ in range(6):
            raw = infer(int(port[1])).raw_output_contents[0]
            found = np.frombuffer(raw, np.float32).reshape(2, 3)
            np.testing.assert_allclose(found, X @ WEIGHT + 1, rtol=1e-5)
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
        assert server.infer({"inputs": [tensor]})[0] == 200
        (stats,) = server.ask("GET", "/v2/models/digits/stats")[1]["model_stats"]
        assert stats["inference_stats"]["success"]["count"] == 7
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0


def test_image_files_are_read_over_both_ports(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    data = (tmp_path / "noise.png").read_bytes()
    assert len(data) > 4096  # of less the event loop decodes itself
    with serving(photo(tmp_path), "--grpc-port", 0) as server:
        assert server.process.stdout
        port = int(server.process.stdout.readline().rpartition(":")[2])
        for sent in (data, data[:5000]):
            value = len(sent).to_bytes(4, "little") + sent
            tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}
            head = json.dumps(
                {"inputs": [tensor | {"parameters": {"binary_data_size": len(value)}}]}
            ).encode()
            status, answer = server.ask(
                "POST", "/v2/models/photo/infer", head + value,
                Inference_Header_Content_Length=str(len(head)),
            )  # fmt: skip
            request = messages.ModelInferRequest(
                model_name="photo", inputs=[tensor], raw_input_contents=[value]
            )
            if sent == data:
                found = np.array(answer["outputs"][0]["data"], np.float32)
                np.testing.assert_allclose(found, pixels.mean((0, 1)), rtol=1e-5)
                raw = call(port, request).raw_output_contents[0]
                np.testing.assert_array_equal(np.frombuffer(raw, np.float32), found)
            else:
                assert (status, "cannot be read as an image" in answer["error"]) == (400, True)
                with pytest.raises(grpc.RpcError, match="cannot be read as an image"):
                    call(port, request)


def test_a_message_is_no_longer_than_a_body(tmp_path: Path) -> None:
    with serving(digits(tmp_path), "--grpc-port", 0, "--max-body", "16") as server:
        assert server.process.stdout
        port = int(server.process.stdout.readline().rpartition(":")[2])
        with pytest.raises(grpc.RpcError) as caught:
            infer(port)
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "at most 16 are read" in error.details()


@pytest.mark.parametrize(
    ("make", "name", "code", "text"),
    [
        (picky, "index", grpc.StatusCode.INVALID_ARGUMENT, "refused the values of an input: "),
        (stiff, "size", grpc.StatusCode.INTERNAL, "ONNX Runtime failed: "),
    ],
)
def test_values_that_an_engine_refuses_are_told_from_its_failures(
    tmp_path: Path, make: Callable[[Path], Path], name: str, code: grpc.StatusCode, text: str
) -> None:
    with serving(make(tmp_path), "--grpc-port", 0) as server:
        assert server.process.stdout
        port = int(server.process.stdout.readline().rpartition(":")[2])
        with pytest.raises(grpc.RpcError) as caught:
            infer(port, make.__name__, name, np.array([4]))
        error: Any = caught.value
        assert error.code() is code
        assert text in error.details()


def test_without_its_libraries_the_remedy_is_told(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["hpack"] = None
from edgeport.__main__ import main
sys.exit(main({[str(part) for part in run_serve(digits(tmp_path), "--grpc-port", 0)[3:]]}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr == (
        "edgeport: serving gRPC needs 'hpack', which is not installed\n"
        "  fix: pip install 'edgeport[grpc]'\n"
    )
