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
    asked = _Asked(target)
    name = target.mlp.name
    for call, action in {
        "GET v2/health/live": lambda: asked.get("/v2/health/live", {"live": True}),
        "GET v2/health/ready": lambda: asked.get("/v2/health/ready", {"ready": True}),
        "GET v2/models/M/ready": lambda: asked.get(f"/v2/models/{name}/ready", {"ready": True}),
        "GET v2/models/M/stats": lambda: asked.get(f"/v2/models/{name}/stats", {}),
        "GET v2/models/M/versions/1/stats": lambda: asked.get(
            f"/v2/models/{name}/versions/1/stats", {}
        ),
        "GET v2/models/stats": lambda: asked.get("/v2/models/stats", {}),
        "GET v2/models": asked.models,
        "POST infer, flat and nested": asked.nested,
        "POST infer, the whole body is the input": asked.raw,
        "POST infer, binary_data_output": asked.binary_output,
        "POST infer, gzip both ways": asked.compressed,
        "POST v2/repository/index, no body": lambda: equal(
            asked.ask("POST", "/v2/repository/index")[0], 200, "status"
        ),
        "404 is an error object": lambda: asked.error(404, "GET", "/v2/models/nothing"),
        "405 is an error object": lambda: asked.error(405, "GET", asked.infer),
        "400 is an error object": lambda: asked.error(400, "POST", asked.infer, b"{"),
        "GET metrics": lambda: equal(asked.ask("GET", "/metrics")[0], 200, "status"),
    }.items():
        checks.run(call, action)
    return [checks]


class _Asked:
    """A server, asked by hand.

    Args:
        target: Where it is, and what it serves.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._case = target.mlp.case()
        (self._x,) = self._case.inputs.values()
        self.infer = f"/v2/models/{target.mlp.name}/infer"
        self._tensor = {
            "name": "x",
            "datatype": "FP32",
            "shape": list(self._x.shape),
            "data": self._x.ravel().tolist(),
        }

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        connection = http.client.HTTPConnection(self._target.http, timeout=30)
        try:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, body or None, named)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def get(self, path: str, expected: Mapping[str, object]) -> None:
        status, _, body = self.ask("GET", path)
        equal(status, 200, "status")
        found = json.loads(body)
        for key, value in expected.items():
            equal(found.get(key), value, key)

    def models(self) -> None:
        found = json.loads(self.ask("GET", "/v2/models")[2])["models"]
        expect(
            {self._target.every.name, self._target.mlp.name} <= set(found), f"models are {found}"
        )

    def raw(self) -> None:
        status, headers, body = self.ask(
            "POST", self.infer, self._x.tobytes(), Inference_Header_Content_Length="0"
        )
        equal(status, 200, f"status of {body[:200]!r}")
        size = int(headers["Inference-Header-Content-Length"])
        output = json.loads(body[:size])["outputs"][0]
        data = np.frombuffer(body[size:], np.float32).reshape(output["shape"])
        right(self._case, {output["name"]: data}.__getitem__)

    def nested(self) -> None:
        for data in (self._x.tolist(), self._x.ravel().tolist()):
            status, headers, body = self.ask(
                "POST",
                self.infer,
                json.dumps({"inputs": [{**self._tensor, "data": data}]}).encode(),
            )
            equal(status, 200, f"status of {body[:200]!r}")
            expect("Inference-Header-Content-Length" not in headers, "binary header without binary")
            outputs = json.loads(body)["outputs"]
            arrays = {
                o["name"]: np.array(o["data"], np.float32).reshape(o["shape"]) for o in outputs
            }
            right(self._case, arrays.__getitem__)

    def binary_output(self) -> None:
        request = {"inputs": [self._tensor], "parameters": {"binary_data_output": True}}
        status, headers, body = self.ask("POST", self.infer, json.dumps(request).encode())
        equal(status, 200, "status")
        size = int(headers["Inference-Header-Content-Length"])
        output = json.loads(body[:size])["outputs"][0]
        equal(output["parameters"]["binary_data_size"], len(body) - size, "binary_data_size")

    def compressed(self) -> None:
        body = gzip.compress(json.dumps({"inputs": [self._tensor]}).encode())
        status, headers, answer = self.ask(
            "POST", self.infer, body, Content_Encoding="gzip", Accept_Encoding="gzip"
        )
        equal(status, 200, "status")
        if headers.get("Content-Encoding") == "gzip":
            answer = gzip.decompress(answer)
        expect("outputs" in json.loads(answer), "no outputs")

    def error(self, status: int, method: str, path: str, body: bytes = b"") -> None:
        found, headers, answer = self.ask(method, path, body)
        equal(found, status, f"status of {answer[:200]!r}")
        equal(list(json.loads(answer)), ["error"], "keys of the error")
        if status == 405:
            expect("Allow" in headers, "405 without Allow")
