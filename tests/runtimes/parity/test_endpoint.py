"""A model behind a URL: a small server of the test's own answers, rightly and wrongly."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeport.__main__ import main
from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    ContractError,
    EngineError,
    Options,
    Session,
    Signature,
    TensorSpec,
    UsageError,
)
from edgeport.runtimes.parity.endpoint import _DATATYPES, Endpoint, verify_endpoint
from edgeport.runtimes.serve.describe import tensor
from edgeport.runtimes.serve.requests import DATATYPES, InferResponse
from edgeport.runtimes.serve.wire import parse_request, render_response
from edgeport.runtimes.signature import DTYPES

Change = Callable[[str, Any], Any]


@contextlib.contextmanager
def server(metadata: Any, answer: Callable[[bytes], Any], model: str = "mlp") -> Iterator[str]:
    """Serve one model; ``answer`` makes JSON, or bytes as they are, from the body of a request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {
                "/v2": {"name": "tested", "version": "7"},
                f"/v2/models/{model}": metadata,
            }
            found = known.get(self.path)
            self._reply(200 if found else 404, found or {"error": "no such thing"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                self._reply(200, answer(body))
            except RuntimeError as e:
                self._reply(500, {"error": str(e)})

        def _reply(self, status: int, value: Any) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()
            thread.join()


def about(name: str, signature: Signature) -> dict[str, Any]:
    inputs, outputs = (list(map(tensor, s)) for s in (signature.inputs, signature.outputs))
    return {"name": name, "platform": "onnx", "inputs": inputs, "outputs": outputs}


def answer_to(body: bytes, signature: Signature, session: Session) -> Any:
    asked = parse_request(body, "m", "", signature)
    response = InferResponse("m", "1", session.run(asked.request.inputs), "")
    (answer,), _ = render_response(asked, response)
    return json.loads(answer)


@contextlib.contextmanager
def honest(
    packed: Path, change: Change = lambda _, value: value, model: str = "mlp"
) -> Iterator[tuple[Bundle, str]]:
    """A server that computes the model; ``change`` sees "metadata" and "answer" before it sends."""
    bundle = Bundle.read(packed)
    signature = bundle.manifest.signature
    with bundle.open("ort-cpu", Options(threads=1)) as session:

        def answer(body: bytes) -> Any:
            return change("answer", answer_to(body, signature, session))

        metadata = change("metadata", about("mlp", signature))
        with server(metadata, answer, model) as url:
            yield bundle, url


def test_a_right_server_passes(packed: Path) -> None:
    with honest(packed) as (bundle, url):
        report = verify_endpoint(bundle, url)
        (backend,) = report.backends
        assert report.passed
        assert backend.engine is not None
        assert (backend.engine.engine, backend.engine.version) == ("tested", "7")
        assert backend.backend == url.removeprefix("http://")
        assert len(backend.verdicts) == 8
        for path in ("/", "/v2", "/v2/models/mlp", "/v2/models/mlp/", "/v2/models/mlp/infer"):
            assert verify_endpoint(bundle, url + path).passed


def test_a_narrower_bundle_is_judged_by_its_signal(packed: Path) -> None:
    def rounded(what: str, value: Any) -> Any:
        if what == "answer":
            logits = next(o for o in value["outputs"] if o["name"] == "logits")
            logits["data"] = [1.01 * number for number in logits["data"]]
        return value

    with honest(packed, rounded) as (bundle, url):
        assert not verify_endpoint(bundle, url).passed
        artefacts = tuple(replace(a, precision="int8") for a in bundle.manifest.artefacts)
        narrower = replace(bundle, manifest=replace(bundle.manifest, artefacts=artefacts))
        report = verify_endpoint(narrower, url)
        assert report.passed
        assert report.backends[0].reduced == "int8"


def test_a_server_that_computes_something_else_fails(packed: Path) -> None:
    def change(what: str, value: Any) -> Any:
        if what == "answer":
            value["outputs"][0]["data"][0] += 1e-3
        return value

    with honest(packed, change) as (bundle, url):
        (backend,) = verify_endpoint(bundle, url).backends
    assert backend.outcome == "fail"
    assert {verdict.output for verdict in backend.failures} == {"logits"}


def test_tensors_named_by_their_place_and_padded_are_paired(packed: Path) -> None:
    """As Triton serves TorchScript, and outputs without axes behind the batch."""
    names = {"x": "INPUT__0", "logits": "OUTPUT__0", "label": "OUTPUT__1"}

    def change(what: str, value: Any) -> Any:
        for entry in (*value.get("inputs", ()), *value["outputs"]):
            padded = entry["name"] == "label"
            entry["name"] = names[entry["name"]]
            entry["shape"] += [1] if padded else []
        return value

    bundle = Bundle.read(packed)
    signature = bundle.manifest.signature
    back = {new: old for old, new in names.items()}
    with bundle.open("ort-cpu", Options(threads=1)) as session:

        def answer(body: bytes) -> Any:
            text = body.decode()
            for new, old in back.items():
                text = text.replace(new, old)
            return change("answer", answer_to(text.encode(), signature, session))

        metadata = change("metadata", about("mlp", signature))
        with server(metadata, answer) as url:
            assert verify_endpoint(bundle, url).passed


def first(value: Any, **changes: Any) -> Any:
    value["outputs"][0] |= changes
    return value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda v: first(v, data=[None] * 3), "holds None, expected float32"),
        (lambda v: first(v, data=["1"] * 3), "holds '1', expected float32"),
        (lambda v: first(v, data=[True] * 3), "holds True, expected float32"),
        (lambda v: first(v, data=[1.0]), "cannot reshape"),
        (lambda v: first(v, shape=[-1, 3]), r"has the shape \[-1, 3\]"),
        (lambda v: first(v, shape="3"), "has the shape 3"),
        (lambda v: first(v, datatype="FP64"), "is FP64, not logits: float32"),
        (lambda v: first(v, name="other"), "the answer has no output 'logits'"),
        (lambda v: {"outputs": 3}, "the answer has no list of outputs"),
        (lambda _: [], "the answer is no JSON object"),
        (lambda _: b"<html>", "the answer is not JSON"),
        (lambda _: b"[" * 100_000, "the answer is not JSON"),
    ],
)
def test_what_makes_no_sense_is_told(
    change: Callable[[Any], Any], problem: str, packed: Path
) -> None:
    with honest(packed, lambda what, v: change(v) if what == "answer" else v) as (bundle, url):
        with pytest.raises(EngineError, match=problem):
            Endpoint(url, "mlp", bundle.manifest.signature).run(bundle.golden()[0].inputs)
        (backend,) = verify_endpoint(bundle, url).backends
        assert backend.outcome == "fail"


def test_integers_are_exact(packed: Path) -> None:
    def change(what: str, value: Any) -> Any:
        if what == "answer":
            value["outputs"][1]["data"][0] = 2**63
        return value

    with (
        honest(packed, change) as (bundle, url),
        pytest.raises(EngineError, match=r"output 'label': .*(too large|out of bounds)"),
    ):
        Endpoint(url, "mlp", bundle.manifest.signature).run(bundle.golden()[0].inputs)


def test_a_failure_of_the_server_is_passed_on(packed: Path) -> None:
    bundle = Bundle.read(packed)

    def fail(_: bytes) -> Any:
        raise RuntimeError("out of threads")

    with server(about("mlp", bundle.manifest.signature), fail) as url:
        (backend,) = verify_endpoint(bundle, url).backends
    assert backend.outcome == "fail"
    assert "/v2/models/mlp/infer answered 500: out of threads" in str(backend.reason)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"inputs": [], "outputs": []}, r"has the inputs \(none\), the bundle has x"),
        (
            {"inputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 8]}], "outputs": []},
            "has the inputs y, the bundle has x",
        ),
        (
            {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 8]}], "outputs": []},
            r"has 'x' as FP64\[-1, 8\], the bundle has x: float32\[batch, 8\]",
        ),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 8, 8]}], "outputs": []},
            r"has 'x' as FP32\[-1, 8, 8\]",
        ),
    ],
)
def test_another_model_is_refused(metadata: Any, problem: str, packed: Path) -> None:
    with (
        server(metadata, lambda _: {}) as url,
        pytest.raises(ContractError, match=problem),
    ):
        verify_endpoint(Bundle.read(packed), url)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://a",
        "http://",
        "http://a:port",
        "http://a:0",
        "http://a?b",
        "http://u@a",
        "http://a b",
        "http://a..b",
        f"http://{'a' * 64}",
    ],
)
def test_what_is_no_address(url: str, packed: Path) -> None:
    with pytest.raises(UsageError, match="is no address of a server"):
        verify_endpoint(Bundle.read(packed), url)


def test_an_address_may_have_letters_of_any_script(packed: Path) -> None:
    with honest(packed, model="gr%C3%B6%C3%9Fe%20x") as (bundle, url):
        for name in ("größe x", "gr%C3%B6%C3%9Fe%20x"):
            assert verify_endpoint(bundle, f"{url}/v2/models/{name}").passed


def test_nobody_is_there_or_has_no_such_model(packed: Path) -> None:
    bundle = Bundle.read(packed)
    with (
        server({}, lambda _: {}, model="other") as url,
        pytest.raises(UsageError, match="/v2/models/mlp is not there: no such thing"),
    ):
        verify_endpoint(bundle, url)
    with pytest.raises(BackendMissingError, match=f"no answer from {url}"):
        verify_endpoint(bundle, url)


def test_a_server_that_does_not_answer_is_not_waited_for(
    packed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert main(["verify", str(packed), "--url", url, "--time-limit", "1"]) == 3
    assert capsys.readouterr().err == (
        f"edgeport: no answer from {url} within 1 s\n"
        "  fix: see what the server does; a slow model: --time-limit SECONDS\n"
    )


def test_the_port_for_grpc_is_another(packed: Path) -> None:
    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=answer, args=[listening])
        thread.start()
        with pytest.raises(EngineError) as raised:
            verify_endpoint(Bundle.read(packed), url)
        thread.join()
    assert str(raised.value) == (
        f"what answers at {url} does not speak HTTP\n"
        "  fix: pass the port for HTTP; that for gRPC is another"
    )


def test_every_dtype_goes_there_and_back() -> None:
    assert {**_DATATYPES, "object": "BYTES"} == DATATYPES
    signature = Signature(
        tuple(TensorSpec(f"x_{dtype}", dtype, ("n", 2)) for dtype in DTYPES),
        tuple(TensorSpec(f"y_{dtype}", dtype, ("n", 2)) for dtype in DTYPES),
    )

    def echo(body: bytes) -> Any:
        request = json.loads(body)
        for entry in request["inputs"]:
            entry["name"] = entry["name"].replace("x_", "y_")
            entry["data"] = [entry["data"][i : i + 2] for i in range(0, len(entry["data"]), 2)]
        return {"outputs": request["inputs"]}

    inputs = {}
    for dtype in DTYPES:
        kind = np.dtype(dtype)
        values = np.array([[0, 1], [1, 0], [1, 1]], kind)
        if kind.kind == "f":
            info: Any = np.finfo(kind)
            values = np.array([[np.nan, np.inf], [-np.inf, info.tiny], [info.max, 1 / 3]], kind)
        elif kind.kind in "iu":
            limits = np.iinfo(kind)
            values = np.array([[limits.min, limits.max], [0, 1], [2, 3]], kind)
        inputs[f"x_{dtype}"] = values
    with server(about("mlp", signature), echo) as url:
        found = Endpoint(url, "mlp", signature).run(inputs)
    for dtype in DTYPES:
        np.testing.assert_array_equal(found[f"y_{dtype}"], inputs[f"x_{dtype}"], strict=True)
