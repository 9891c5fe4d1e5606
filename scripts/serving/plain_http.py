"""What clients do that no library of the three does: requests written by hand."""

import gzip
import http.client
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from scripts.serving.checks import Checks, Target, equal, expect, right


def run(target: Target) -> list[Checks]:
    """Check health as JSON, the list of models, a raw body, compression, headers."""
    checks = Checks("http.client")
    mlp = target.mlp
    case = mlp.case()
    (x,) = case.inputs.values()
    infer = f"/v2/models/{mlp.name}/infer"
    tensor = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}

    def ask(method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        connection = http.client.HTTPConnection(target.http, timeout=30)
        try:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, body or None, named)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def get(path: str, expected: Mapping[str, object]) -> None:
        status, _, body = ask("GET", path)
        equal(status, 200, "status")
        found = json.loads(body)
        for key, value in expected.items():
            equal(found.get(key), value, key)

    def models() -> None:
        found = json.loads(ask("GET", "/v2/models")[2])["models"]
        expect({target.every.name, mlp.name} <= set(found), f"models are {found}")

    def raw() -> None:
        status, headers, body = ask("POST", infer, x.tobytes(), Inference_Header_Content_Length="0")
        equal(status, 200, f"status of {body[:200]!r}")
        size = int(headers["Inference-Header-Content-Length"])
        output = json.loads(body[:size])["outputs"][0]
        data = np.frombuffer(body[size:], np.float32).reshape(output["shape"])
        right(case, {output["name"]: data}.__getitem__)

    def nested() -> None:
        for data in (x.tolist(), x.ravel().tolist()):
            status, headers, body = ask(
                "POST", infer, json.dumps({"inputs": [{**tensor, "data": data}]}).encode()
            )
            equal(status, 200, f"status of {body[:200]!r}")
            expect("Inference-Header-Content-Length" not in headers, "binary header without binary")
            outputs = json.loads(body)["outputs"]
            arrays = {
                o["name"]: np.array(o["data"], np.float32).reshape(o["shape"]) for o in outputs
            }
            right(case, arrays.__getitem__)

    def binary_output() -> None:
        request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
        status, headers, body = ask("POST", infer, json.dumps(request).encode())
        equal(status, 200, "status")
        size = int(headers["Inference-Header-Content-Length"])
        output = json.loads(body[:size])["outputs"][0]
        equal(output["parameters"]["binary_data_size"], len(body) - size, "binary_data_size")

    def compressed() -> None:
        body = gzip.compress(json.dumps({"inputs": [tensor]}).encode())
        status, headers, answer = ask(
            "POST", infer, body, Content_Encoding="gzip", Accept_Encoding="gzip"
        )
        equal(status, 200, "status")
        if headers.get("Content-Encoding") == "gzip":
            answer = gzip.decompress(answer)
        expect("outputs" in json.loads(answer), "no outputs")

    def error(status: int, method: str, path: str, body: bytes = b"") -> None:
        found, headers, answer = ask(method, path, body)
        equal(found, status, f"status of {answer[:200]!r}")
        equal(list(json.loads(answer)), ["error"], "keys of the error")
        if status == 405:
            expect("Allow" in headers, "405 without Allow")

    for call, action in {
        "GET v2/health/live": lambda: get("/v2/health/live", {"live": True}),
        "GET v2/health/ready": lambda: get("/v2/health/ready", {"ready": True}),
        "GET v2/models/M/ready": lambda: get(f"/v2/models/{mlp.name}/ready", {"ready": True}),
        "GET v2/models/M/stats": lambda: get(f"/v2/models/{mlp.name}/stats", {}),
        "GET v2/models/M/versions/1/stats": lambda: get(
            f"/v2/models/{mlp.name}/versions/1/stats", {}
        ),
        "GET v2/models/stats": lambda: get("/v2/models/stats", {}),
        "GET v2/models": models,
        "POST infer, flat and nested": nested,
        "POST infer, the whole body is the input": raw,
        "POST infer, binary_data_output": binary_output,
        "POST infer, gzip both ways": compressed,
        "POST v2/repository/index, no body": lambda: equal(
            ask("POST", "/v2/repository/index")[0], 200, "status"
        ),
        "404 is an error object": lambda: error(404, "GET", "/v2/models/nothing"),
        "405 is an error object": lambda: error(405, "GET", infer),
        "400 is an error object": lambda: error(400, "POST", infer, b"{"),
        "GET metrics": lambda: equal(ask("GET", "/metrics")[0], 200, "status"),
    }.items():
        checks.run(call, action)
    return [checks]
