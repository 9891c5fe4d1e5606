"""The whole server, as a process, over real sockets, with real engines."""

import contextlib
import gzip
import http.client
import json
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from handmade import stored
from served import (
    DEADLINE_S,
    WEIGHT,
    Arrays,
    Server,
    ask,
    connections,
    digits,
    failing,
    pack,
    picky,
    request,
    run_serve,
    serving,
    slow,
    slow_request,
    stiff,
    tensor,
    wait_until,
    wait_until_refused,
)

from edgeport.runtimes import Signature, TensorSpec


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = digits(tmp_path_factory.mktemp("bundle"))
    return path


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Server]:
    with serving(bundle) as found:
        yield found
        found.process.send_signal(signal.SIGTERM)
        assert found.process.wait(DEADLINE_S) == 0


# ---- what it answers


def test_the_line_on_stdout_names_model_address_and_backend(server: Server) -> None:
    assert server.line == f"serving digits on http://127.0.0.1:{server.port} (ort-cpu)\n"


def test_health_and_metadata(server: Server) -> None:
    assert server.ask("GET", "/v2/health/live") == (200, {"live": True})
    assert server.ask("GET", "/v2/health/ready") == (200, {"ready": True})
    assert server.ask("GET", "/v2/models") == (200, {"models": ["digits"]})
    status, about = server.ask("GET", "/v2/")
    assert (status, about["name"]) == (200, "edgeport")
    assert {"binary_tensor_data", "classification", "statistics"} <= set(about["extensions"])
    for model in ("/v2/models/digits", "/v2/models/digits/versions/1", "/v2/models/digi%74s?a=b"):
        assert server.ask("GET", model) == (
            200,
            {
                "name": "digits",
                "versions": ["1"],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                "outputs": [
                    {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
                    {"name": "label", "datatype": "INT64", "shape": [-1]},
                ],
            },
        )
    for model in ("/v2/models/digits/ready", "/v2/models/digits/versions/1/ready"):
        assert server.ask("GET", model) == (200, {"name": "digits", "ready": True})


def test_a_target_may_name_the_host_too(server: Server) -> None:
    for host in (f"http://127.0.0.1:{server.port}", "https://elsewhere.example"):
        assert server.ask("GET", f"{host}/v2/health/live?x=1") == (200, {"live": True})
    assert server.ask("GET", "ftp://127.0.0.1/v2/health/live")[0] == 404


def test_inference_answers_what_numpy_computes(server: Server) -> None:
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    nested = request(tensor(shape=[5, 4], data=x.tolist()), id="a7")
    status, answer = server.ask("POST", "/v2/models/digits/versions/1/infer", nested)
    assert (status, answer["id"], answer["model_name"]) == (200, "a7", "digits")
    logits, label = answer["outputs"]
    assert (logits["shape"], label["shape"]) == ([5, 3], [5])
    expected = x @ WEIGHT + 1
    np.testing.assert_allclose(logits["data"], expected.ravel(), rtol=1e-5)
    assert label["data"] == expected.argmax(1).tolist()
    assert server.infer(request(tensor(shape=[5, 4], data=x.ravel().tolist()), id="a7")) == (
        200,
        answer,
    )


def test_only_what_is_asked_for_is_answered(server: Server) -> None:
    wanted = [{"name": "label", "parameters": {"binary_data": False}}]
    status, answer = server.infer(request(outputs=wanted))
    assert (status, [output["name"] for output in answer["outputs"]]) == (200, ["label"])
    assert "id" not in answer


def test_nan_is_taken_and_given(server: Server) -> None:
    status, answer = server.infer(
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[NaN,1,Infinity,-1]}]}'
    )
    assert status == 200
    assert np.isnan(answer["outputs"][0]["data"]).all()


DEEP = b'{"inputs":' + b"[" * 64 + b"]" * 64 + b"}"

MALFORMED: list[tuple[Any, str]] = [
    (b"", "the body is empty; fix: send an Open Inference Protocol v2 request"),
    (b"{", "the body is not valid JSON"),
    (b"\xff{}", "not valid JSON: 'utf-8' codec can't decode"),
    (b'{"inputs":[],"inputs":[]}', "the key 'inputs' appears twice"),
    (DEEP, "nested deeper than 64 levels"),
    (b"[" * 200_000, "nested deeper than 64 levels"),
    (b"9" * 5000, "the body is not valid JSON"),
    (b"[]", "the request is a list, expected an object"),
    (b"null", "the request is null"),
    ({}, "the request has no 'inputs'"),
    ({"inputs": {}}, "'inputs' is an object, expected a list"),
    ({"inputs": [1]}, "inputs[0] is 1, expected an object"),
    ({"inputs": []}, "wrong input names: missing 'x'"),
    (request(id=7), "the id is 7, expected a string"),
    (request(id="\ud800"), "holds half of a surrogate pair"),
    (request(parameters={"timeout": "1"}), 'the timeout of the request is "1"'),
    (request(parameters=[]), "'parameters' of the request is a list"),
    (request(parameters={"binary_data_output": 1}), "binary_data_output of the request is 1"),
    (request(parameters={"timeout": -1}), "the timeout of the request is -1"),
    (request(tensor(parameters={"binary_data_size": 16})), "has both 'data' and binary_data_size"),
    (request(tensor(data=..., parameters={"binary_data_size": 16})), "and 0 are left in the body"),
    (request(tensor(parameters={"shared_memory_region": "a"})), "asks for shared memory"),
    (request(tensor(name=...)), "the name of an input is null"),
    (request(tensor(name="y")), "wrong input names: missing 'x', unknown 'y'"),
    (request(tensor(), tensor()), "input 'x' is given twice"),
    (request(tensor(), tensor(name="y")), "wrong input names: unknown 'y'"),
    (request(tensor(datatype=...)), "input 'x' has datatype null, expected FP32"),
    (request(tensor(name="z", datatype=...)), "input 'z' has datatype null, expected BOOL or"),
    (request(tensor(datatype="FP64")), """has datatype "FP64", expected FP32"""),
    (request(tensor(datatype="BYTES", data=["a"] * 4)), "expected FP32"),
    (request(tensor(datatype=[])), "has datatype a list"),
    (request(tensor(shape=...)), "the shape of input 'x' is null"),
    (request(tensor(shape=4)), "the shape of input 'x' is 4"),
    (request(tensor(shape=[-1, 4])), "holds -1, which is no size"),
    (request(tensor(shape=[1.0, 4])), "holds 1.0, which is no size"),
    (request(tensor(shape=[True, 4])), "holds true, which is no size"),
    (request(tensor(shape=["1", 4])), 'holds "1", which is no size'),
    (request(tensor(shape=[10**30, 4])), "which is no size"),
    (request(tensor(shape=[10**9, 64])), "has 4 values, its shape [1000000000, 64] needs"),
    (request(tensor(shape=[2, 4])), "has 4 values, its shape [2, 4] needs 8"),
    (request(tensor(shape=[4])), "has 1 axes [4], expected 2"),
    (request(tensor(shape=[2, 2])), "axis 1 is 2, expected 4"),
    (request(tensor(shape=[0, 4], data=[])), "axis 0 is 0, expected batch in 1.."),
    (request(tensor(data=...)), "the data of input 'x' is null, expected a list"),
    (request(tensor(data=1)), "the data of input 'x' is 1, expected a list"),
    (request(tensor(data=[1, 2, 3])), "has 3 values, its shape [1, 4] needs 4"),
    (request(tensor(data=[[1, 2, 3, 4], [5]])), "a row of axis 0 has not 1 entries"),
    (request(tensor(data=[[1, 2, 3]])), "a row of axis 1 has not 4 entries"),
    (request(tensor(data=[[[1], [2], [3], [4]]])), "value 0 of input 'x' is a list"),
    (request(tensor(data=[1, [2], 3, 4])), "value 1 of input 'x' is a list"),
    (request(tensor(data=[1, 2, "3", 4])), """value 2 of input 'x' is "3", expected a number"""),
    (request(tensor(data=[1, 2, None, 4])), "value 2 of input 'x' is null"),
    (request(tensor(data=[1, 2, True, 4])), "value 2 of input 'x' is true"),
    (request(tensor(data=[1, 2, 3, 1e39])), "holds 1e+39, which FP32 cannot hold"),
    (request(tensor(data=[1, 2, 3, 10**400])), "which FP32 cannot hold"),
    (request(outputs={}), "'outputs' is an object"),
    (request(outputs=[{"name": "logit"}]), "no output 'logit'"),
    (request(outputs=[{"name": "label"}] * 2), "output 'label' is asked for twice"),
    (
        request(outputs=[{"name": "label", "parameters": {"classification": -1}}]),
        "the classification of output 'label' is -1, expected a number of classes",
    ),
]


@pytest.mark.parametrize(("body", "message"), MALFORMED)
def test_a_malformed_request_is_400_and_says_why(server: Server, body: Any, message: str) -> None:
    status, answer = server.infer(body)
    assert (status, list(answer)) == (400, ["error"])
    assert message in answer["error"]
    assert server.infer(request())[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v3", 404, "nothing is at /v3"),
        ("GET", "*", 404, "nothing is at *"),
        ("GET", "/v2/health", 404, "nothing is at /v2/health"),
        ("GET", "/v1/models/digits", 404, "nothing is at"),
        ("GET", "/v2/models/digit", 404, "no model is named 'digit'; this server has 'digits'"),
        ("POST", "/v2/models/other/infer", 404, "no model is named 'other'"),
        ("POST", "/v2/models/digits/versions/2/infer", 404, "no version '2'; it has '1'"),
        ("GET", "/v2/models/digits/versions/1/nothing", 404, "nothing is at"),
        ("POST", "/v2/repository/models/digits/load", 403, "may not load models"),
        ("POST", "/v2/repository/models/digits/unload", 403, "may not unload models"),
        ("GET", "/v2/repository/index", 405, "use POST"),
        ("POST", "/v2/health/live", 405, "POST is not allowed on /v2/health/live; fix: use GET"),
        ("DELETE", "/v2/models/digits", 405, "use GET"),
        ("GET", "/v2/models/digits/infer", 405, "use POST"),
    ],
)
def test_wrong_paths_and_verbs(
    server: Server, method: str, path: str, status: int, message: str
) -> None:
    found, answer = server.ask(method, path)
    assert (found, message in answer["error"]) == (status, True), answer
    assert "; fix: " in answer["error"]


@pytest.mark.parametrize(
    ("header", "value", "message"),
    [
        ("Inference_Header_Content_Length", "9000", "the JSON is said to have 9000 bytes"),
        ("Inference_Header_Content_Length", "-1", "is '-1'; fix: send the number of bytes"),
        ("Content_Encoding", "gzip", "the body is not gzip"),
        ("Content_Encoding", "br", "the body is encoded as 'br', expected gzip or deflate"),
    ],
)
def test_headers_that_are_wrong_are_named(
    server: Server, header: str, value: str, message: str
) -> None:
    path = "/v2/models/digits/infer"
    status, answer = server.ask("POST", path, request(), **{header: value})
    assert (status, message in answer["error"]) == (400, True)


def test_what_is_asked_of_the_index_is_a_bool(server: Server) -> None:
    status, answer = server.ask("POST", "/v2/repository/index", {"ready": 1})
    assert (status, "'ready' is no bool" in answer["error"]) == (400, True)


def test_a_large_body_is_refused_before_it_is_sent(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as client:
        client.sendall(
            b"POST /v2/models/digits/infer HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (2**26 + 1)
        )
        assert client.recv(10**4).startswith(b"HTTP/1.1 413 ")


def test_clients_at_the_same_time_get_their_own_answers(server: Server) -> None:
    def one(seed: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
        with contextlib.closing(connection):
            for value in range(seed, seed + 30):
                body = request(tensor(data=[value, 0, 0, 0]), id=str(value))
                status, answer = ask(connection, "POST", "/v2/models/digits/infer", body)
                assert (status, answer["id"]) == (200, str(value))
                np.testing.assert_allclose(answer["outputs"][0]["data"], value * WEIGHT[0] + 1)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(0, 400, 100)))


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_large_answer_is_whole(server: Server, encoding: str) -> None:
    x = np.random.default_rng(0).normal(size=(30_000, 4)).astype(np.float32)
    body = json.dumps(request(tensor(shape=list(x.shape), data=x.ravel().tolist()))).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request("POST", "/v2/models/digits/infer", body, {"Accept-Encoding": encoding})
        response = connection.getresponse()
        data = response.read()
    assert (response.status, response.headers.get("Content-Encoding", "identity")) == (
        200,
        encoding,
    )
    outputs = json.loads(gzip.decompress(data) if encoding == "gzip" else data)["outputs"]
    found = np.array(outputs[0]["data"], np.float32).reshape(-1, 3)
    np.testing.assert_allclose(found, x @ WEIGHT + 1, rtol=1e-5, atol=1e-6)


def test_several_models_on_the_null_backend(tmp_path: Path) -> None:
    zeros = np.zeros((1, 2), np.float32)
    signature = Signature(
        (TensorSpec("a", "float32", (1, 2)),), (TensorSpec("b", "float32", (1, 2)),)
    )
    data = json.dumps(signature.to_json()).encode()
    paths = [
        pack(tmp_path / file, data, signature, {"a": zeros}, {"b": zeros}, "null")
        for file in ("one.edge", "two words.edge")
    ]
    with serving(*paths, "--backend", "null") as server:
        assert "serving one, two words on " in server.line
        body = request(tensor(name="a", shape=[1, 2], data=[1, 2]))
        status, answer = server.infer(body, "two%20words")
        assert (status, answer["model_name"]) == (200, "two words")


def test_an_engine_that_fails_is_500_and_serves_on(tmp_path: Path) -> None:
    with serving(stiff(tmp_path)) as server:

        def sized(size: int) -> tuple[int, Any]:
            body = request(tensor(name="size", datatype="INT64", shape=[1], data=[size]))
            status, answer = server.infer(body, "stiff")
            return status, answer

        status, answer = sized(4)
        assert (status, list(answer)) == (500, ["error"])
        assert answer["error"].startswith("ONNX Runtime failed: ")
        status, answer = sized(3)
        assert (status, answer["outputs"][0]["data"]) == (200, [5, 6, 7])


def test_values_that_an_engine_refuses_are_400(tmp_path: Path) -> None:
    with serving(picky(tmp_path)) as server:
        index = tensor(name="index", datatype="INT64", shape=[1], data=[3])
        head = tensor(**index | {"data": ..., "parameters": {"binary_data_size": 8}})
        head_bytes = json.dumps(request(head)).encode()
        answers = [
            server.infer(request(index), "picky"),
            server.ask(
                "POST",
                "/v2/models/picky/infer",
                head_bytes + np.array([3]).tobytes(),
                Inference_Header_Content_Length=str(len(head_bytes)),
            ),
        ]
        for status, answer in answers:
            assert (status, list(answer)) == (400, ["error"])
            assert answer["error"].startswith("ONNX Runtime refused the values of an input: ")
            assert "idx=3 must be within the inclusive range [-3,2]; fix: keep" in answer["error"]
        status, answer = server.infer(request(index | {"data": [2]}), "picky")
        assert (status, answer["outputs"][0]["data"]) == (200, [7])
        stats = server.ask("GET", "/v2/models/picky/stats")[1]["model_stats"][0]["inference_stats"]
        assert (stats["success"]["count"], stats["fail"]["count"]) == (1, 0)


# ---- how it starts and ends


def replace_golden(path: Path, tensors: Arrays, samples: list[Any], *, hash_too: bool) -> None:
    data = safetensors.numpy.save(dict(tensors))
    file = stored(path, "golden.safetensors", data)
    manifest = json.loads((path / "manifest.json").read_text())
    if hash_too:
        manifest["golden"] = {**asdict(file), "samples": samples}
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("hash_too", "message"),
    [
        (False, "golden.safetensors is not the file that was packed"),
        (True, "model 'digits', output 'logits', sample 'real': error is"),
    ],
)
def test_a_tampered_golden_sample_stops_it(tmp_path: Path, hash_too: bool, message: str) -> None:
    path = digits(tmp_path)
    tensors = safetensors.numpy.load((path / "golden.safetensors").read_bytes())
    tensors["0/eager/logits"] = tensors["0/eager/logits"] + np.float32(1e-3)
    samples = [{"name": "real", "kind": "real"}]
    replace_golden(path, tensors, samples, hash_too=hash_too)
    code, text = failing(path, "--port", 0)
    assert (code, message in text) == (1, True), text


def test_a_bundle_without_golden_samples_is_not_served(tmp_path: Path) -> None:
    path = digits(tmp_path)
    replace_golden(path, {}, [], hash_too=True)
    code, text = failing(path, "--port", 0)
    assert (code, "holds no golden samples, so it cannot prove anything" in text) == (2, True), text
    assert "repeating" not in text  # nothing is refused after that was said


def test_two_bundles_of_one_name_are_refused(bundle: Path) -> None:
    code, text = failing(bundle, bundle)
    assert (code, text.startswith("edgeport: ")) == (2, True)
    assert "are both named 'digits'" in text


def test_a_port_in_use_is_named(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, text = failing(bundle, "--port", port)
    assert code == 2
    assert f"port {port} of 127.0.0.1 is in use" in text
    assert "--port" in text.split("fix:")[1]


def test_a_mistyped_number_of_workers_takes_no_memory(bundle: Path) -> None:
    code, text = failing(bundle, "--workers", "100000")
    assert (code, "100000 workers are too many: each is a process that" in text) == (2, True), text
    assert "one for each CPU is enough; at most " in text


@pytest.mark.parametrize("where", [("--port", "70000"), ("--host", "256.0.0.1")])
def test_an_address_that_cannot_be_had_is_named(bundle: Path, where: tuple[str, str]) -> None:
    code, text = failing(bundle, *where)
    assert (code, "cannot listen on" in text, where[1] in text) == (2, True, True)


@pytest.mark.parametrize("library", ["httptools", "orjson", "uvloop"])
def test_a_missing_library_is_named_with_its_extra(bundle: Path, library: str) -> None:
    program = (
        f"import sys; sys.modules[{library!r}] = None; from edgeport.__main__ import main; "
        "raise SystemExit(main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "serve", str(bundle)],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 3
    assert f"serving needs '{library}', which is not installed" in ended.stderr
    assert "pip install 'edgeport[serve]'" in ended.stderr


def test_samples_that_prove_nothing_stop_it(tmp_path: Path) -> None:
    path = digits(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["thresholds"]["constant_outputs"] = []
    (path / "manifest.json").write_text(json.dumps(manifest))
    ended = subprocess.run(
        [sys.executable, "-m", "edgeport", "serve", str(path), "--port", "0"],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    log, refusal, *_ = ended.stderr.splitlines()
    assert log.endswith("Z model 'digits' version 1: repeating its golden samples")
    assert "is the same on every sample, which proves nothing" in refusal


def test_the_log_has_the_time_and_a_full_disk_does_not_end_the_server() -> None:
    for stderr, said in (
        ("/dev/stderr", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ all is well\n"),
        ("/dev/full", ""),
    ):
        code = "from edgeport.commands.serve import log; log('all is well')"
        ended = subprocess.run(
            ["sh", "-c", f'"{sys.executable}" -c "{code}" 2>{stderr}'],
            capture_output=True, text=True, timeout=DEADLINE_S, check=False,
        )  # fmt: skip
        assert ended.returncode == 0
        assert re.fullmatch(said, ended.stderr)


def test_where_nothing_can_be_printed_is_served(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        Path("/dev/full").open("w") as full,
        subprocess.Popen(
            run_serve(digits(tmp_path), "--port", port), stdout=full, text=True
        ) as process,
    ):
        server = Server(process, "", port)

        def is_ready() -> bool:
            assert process.poll() is None
            try:
                return bool(server.ask("GET", "/v2/health/ready")[0] == 200)
            except ConnectionError:
                return False

        try:
            wait_until(is_ready)
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()


@pytest.mark.usually("15")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_busy_server_answers_before_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    with serving(slow(tmp_path)) as server, connections(server, 3) as (busy, kept, idle):
        body = slow_request(server, 1.5)
        assert ask(idle, "GET", "/v2/health/ready")[0] == 200
        busy.request("POST", "/v2/models/slow/infer", body)
        assert ask(kept, "GET", "/v2/health/ready") == (200, {"ready": True})  # busy is read now
        server.process.send_signal(number)
        wait_until_refused(server.port)
        assert ask(kept, "GET", "/v2/health/ready") == (
            503,
            {"ready": False, "error": "the server is shutting down"},
        )
        response = busy.getresponse()
        assert (response.status, response.headers["Connection"]) == (200, "close")
        assert json.loads(response.read())["model_name"] == "slow"
        assert server.process.wait(DEADLINE_S) == 0
        assert idle.sock.recv(1) == b""  # closed, not reset


def test_health_is_answered_while_every_worker_is_busy(tmp_path: Path) -> None:
    patient = (slow(tmp_path), "--deadline", "60s")
    with serving(*patient) as server, connections(server, 6) as (kept, *busy):
        body = slow_request(server, 0.5)
        for connection in busy:
            connection.request("POST", "/v2/models/slow/infer", body)
        assert ask(kept, "GET", "/v2/health/live") == (200, {"live": True})
        assert select.select([connection.sock for connection in busy], [], [], 0)[0] == []
        assert [connection.getresponse().status for connection in busy] == [200] * 5
