"""The application for Ray Serve: its file, and the answers behind it; Ray itself is not needed."""

import ast
import asyncio
import json
import runpy
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeport.runtimes import Bundle, ExistingFileError, ParityError, UsageError
from edgeport.runtimes.handoff.answers import Answers
from edgeport.runtimes.handoff.ray_serve import emit


def ask(answers: Callable[..., Any], path: str, value: Any = None) -> tuple[int, Any]:
    method, body = ("GET", b"") if value is None else ("POST", json.dumps(value).encode())
    status, headers, answer = asyncio.run(answers(method, path, {}, body))
    assert headers["content-type"] == "application/json"
    return status, json.loads(answer)


def test_it_answers_the_protocol(packed: Path) -> None:
    answers = Answers(packed)
    assert ask(answers, "/v2/health/ready") == (200, {"ready": True})
    x = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    entry = {"name": "x", "datatype": "FP32", "shape": [2, 8], "data": x.ravel().tolist()}
    status, answer = ask(answers, "/v2/models/mlp/infer", {"inputs": [entry]})
    assert status == 200
    with Bundle.read(packed).open("ort-cpu") as session:
        logits = session.run({"x": x})["logits"]
    assert np.array_equal(np.array(answer["outputs"][0]["data"], np.float32), logits.ravel())
    status, answer = ask(answers, "/v2/models/mlp/infer", {"inputs": []})
    assert status == 400
    assert "missing 'x'" in answer["error"]


def test_a_model_that_is_wrong_takes_no_requests(packed: Path) -> None:
    manifest = json.loads((packed / "manifest.json").read_text())
    manifest["thresholds"]["max_ratio"] = 1e-9
    (packed / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ParityError, match="times the floor"):
        Answers(packed)


def test_the_application_asks_for_replicas_and_finds_its_bundle(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run with stand-ins for what it takes from Ray and Starlette."""
    asked: dict[str, Any] = {}

    def deployment(**options: Any) -> Callable[[type], type]:
        asked.update(options)
        return lambda kind: types.new_class(
            kind.__name__, (kind,), exec_body=lambda n: n.update(bind=classmethod(bind))
        )

    def bind(kind: type, *arguments: Any) -> tuple[type, Any]:
        return kind, arguments

    ray, requests, responses = (types.ModuleType(n) for n in ("ray", "requests", "responses"))
    vars(ray)["serve"] = types.SimpleNamespace(deployment=deployment)
    vars(requests)["Request"] = vars(responses)["Response"] = object
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "starlette.requests", requests)
    monkeypatch.setitem(sys.modules, "starlette.responses", responses)
    emit(Bundle.read(packed), packed.with_name("app.py"), 3)
    _, (bundle,) = runpy.run_path(str(packed.with_name("app.py")))["app"]
    assert asked == {"num_replicas": 3}
    assert bundle == str(packed)


def test_any_name_of_a_bundle_is_spelled_right(packed: Path) -> None:
    odd = packed.rename(packed.with_name('it\'s """ odd\\.edge'))
    emit(Bundle.read(odd), packed.with_name("app.py"), 1)
    constants = [n.value for n in ast.walk(ast.parse(packed.with_name("app.py").read_text()))
                 if isinstance(n, ast.Constant)]  # fmt: skip
    assert odd.name in constants


@pytest.mark.parametrize("name", ["app", "my-app.py", "1.py", "ray.py"])
def test_a_name_that_python_cannot_import(name: str, packed: Path) -> None:
    with pytest.raises(UsageError, match="is no name of a Python module"):
        emit(Bundle.read(packed), packed.with_name(name), 2)


def test_nothing_is_overwritten(packed: Path) -> None:
    packed.with_name("app.py").write_text("mine")
    with pytest.raises(ExistingFileError, match=r"app\.py exists already"):
        emit(Bundle.read(packed), packed.with_name("app.py"), 2)
