"""A model that does not come back: its clients are told, and its process is replaced."""

import http.client
import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from served import (
    DEADLINE_S,
    Server,
    ask,
    connections,
    request,
    serving,
    slow,
    tensor,
    wait_until,
    wait_until_busy,
)
from torch import nn

from edgeport import deploy
from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.bundles.packing import pack
from edgeport.runtimes.serve.loops import loops

FOR_EVER = 10**15


class Rounds(nn.Module):
    """A step as often as the caller likes: the values say how long it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, rounds: torch.Tensor) -> torch.Tensor:
        done = torch.zeros_like(rounds)
        while bool((done < rounds).all()):
            x = torch.tanh(self.step(x))
            done = done + 1
        return x


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "rounds.edge"
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    samples = [{"x": x[n], "rounds": np.array([1 + 3 * n])} for n in range(3)]
    formats = ("torchscript", "pt2")
    deploy.export(Rounds(), samples[0], path, samples=samples[1:], formats=formats)
    return path


def rounds(count: int, **more: Any) -> dict[str, Any]:
    x = tensor(shape=[2, 4], data=[0.1] * 8)
    count_ = tensor(name="rounds", datatype="INT64", shape=[1], data=[count])
    return {**request(x, count_), **more}


def test_what_may_loop_is_known_from_its_file(
    bundle: Path, mlp_bundle: Path, tmp_path: Path
) -> None:
    zipped = tmp_path / "rounds.edge"
    pack(bundle, zipped, zipped=True)
    found = {}
    for path in (bundle, zipped, slow(tmp_path), mlp_bundle):
        opened = Bundle.read(path)
        found[path] = {each.format: loops(opened, each) for each in opened.manifest.artefacts}
    assert list(found.values()) == [
        {"torchscript": True, "pt2": True},
        {"torchscript": True, "pt2": True},
        {"onnx": True},
        {"onnx": False, "torchscript": False, "pt2": False},
    ]


def test_a_model_that_never_answers_is_told_and_replaced(bundle: Path, tmp_path: Path) -> None:
    arguments = (bundle, "--backend", "libtorch", "--run-limit", "2s", "--deadline", "500ms")
    with serving(*arguments, log=tmp_path / "log") as server:
        assert server.infer(rounds(3), "rounds")[0] == 200
        with connections(server, 2) as (stuck, behind):
            for_ever = json.dumps(rounds(FOR_EVER))
            infer = "/v2/models/rounds/infer"
            wait_until_busy(server, lambda: stuck.request("POST", infer, for_ever))
            assert server.ask("GET", "/v2/health/ready") == (200, {"ready": True})
            status, answer = ask(behind, "POST", infer, rounds(3))
            assert (status, "longer than it may" in answer["error"]) == (504, True)
            response = stuck.getresponse()
            assert response.status == 504
            text = json.loads(response.read())["error"]
            assert re.fullmatch(
                r"the model has run for (?![01]\.)\d+\.\d+ s, and has no answer yet; "
                r"fix: .*--run-limit.*",
                text,
            )
        status, answer = server.ask("GET", "/v2/health/ready")
        assert (status, answer["ready"]) == (503, False)
        why = "a run has taken more than 2 s, and goes on"
        about = {"name": "rounds", "ready": False, "error": why}
        assert server.ask("GET", "/v2/models/rounds/ready") == (503, about)
        status, answer = server.infer(rounds(3), "rounds")
        assert (status, why in answer["error"]) == (503, True)
        wait_until(lambda: answer_of(server) == 200)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0
    log = (tmp_path / "log").read_text()
    assert re.search(
        r"model 'rounds' version 1 hangs: worker 0 has run it for \d+ s, and --run-limit is 2 s; "
        r"the worker is killed, with what else it was to answer\n", log
    )  # fmt: skip
    assert "was ended by SIGKILL while it ran 'rounds' version 1; another follows" in log


def answer_of(server: Server) -> int:
    """A status; 0 if its worker was killed meanwhile."""
    try:
        return int(server.infer(rounds(3), "rounds")[0])
    except (OSError, http.client.HTTPException):
        return 0


def test_a_request_may_say_how_long_it_runs(bundle: Path) -> None:
    with serving(bundle, "--backend", "libtorch") as server:
        hurried = rounds(FOR_EVER, parameters={"timeout": 300_000})
        status, answer = server.infer(hurried, "rounds")
        assert status == 504
        told = r"the model has run for \d\.\d+ s, and has no answer yet"
        assert re.match(told, answer["error"])
        assert server.ask("GET", "/v2/health/ready") == (200, {"ready": True})
