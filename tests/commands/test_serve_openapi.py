"""The OpenAPI document is what the server does: every path is asked, every answer is checked."""

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from served import Server, digits, request, serving, tensor


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(digits(tmp_path_factory.mktemp("bundle"))) as found:
        yield found


def answered(server: Server, method: str, path: str, body: Any = None) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, path, None if body is None else json.dumps(body))
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, response.headers["Content-Type"], data


def test_every_answer_is_as_the_document_says(server: Server) -> None:
    document = json.loads(answered(server, "GET", "/openapi.json")[2])
    asked = 0
    for template, item in document["paths"].items():
        for model, version in (("digits", "1"), ("other", "1"), ("digits", "2")):
            path = template.replace("{model}", model).replace("{version}", version)
            for verb in {"get", "post"} & set(item):
                bodies: tuple[Any, ...] = (None, request(), request(tensor(shape=[7])), [])
                for body in bodies:
                    status, kind, data = answered(server, verb.upper(), path, body)
                    responses = item[verb]["responses"]
                    assert str(status) in responses, (verb, path, status, data)
                    content = responses[str(status)]["content"]
                    assert kind.partition(";")[0] in content
                    if kind == "application/json":
                        schema = content[kind]["schema"] | {"components": document["components"]}
                        jsonschema.validate(json.loads(data), schema)
                    asked += 1
            other = {"get": "POST", "post": "GET"}
            for verb in {"get", "post"} & set(item):
                assert answered(server, other[verb], path)[0] == 405
    assert asked > 150


def test_the_routes_are_those_of_the_document(server: Server) -> None:
    document = json.loads(answered(server, "GET", "/openapi.json")[2])
    source = (Path(__file__).parents[2] / "runtimes/serve/routes.py").read_text()
    cases = re.findall(r"Route\(\"(?:GET|POST)\", self\._(\w+)", source)
    versioned = {"metadata", "model_ready", "config", "infer", "statistics"}
    assert len(document["paths"]) == len(cases) + len(versioned)


def test_the_page_needs_nothing_else(server: Server) -> None:
    status, kind, data = answered(server, "GET", "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert not re.search(rb"(src|href)=[\"']?(https?:)?//", data)
    assert b"</html>" in data
    assert b"/v2/repository/index" in data
