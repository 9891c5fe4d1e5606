"""Engines in a bundle: built here, told as not proved, refused in the user's terms."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.engines import _judged
from edgeport.runtimes import (
    BackendMissingError,
    Bundle,
    ExportError,
    Range,
    UsageError,
)
from edgeport.runtimes.bundles.manifest import Artefact, StoredFile
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.tensorrt.library import Library, load
from edgeport.runtimes.tensorrt.tensors import ANSWERED


@pytest.fixture(scope="module", autouse=True)
def ahead_of_time(rtx: Library, no_gpu: None) -> None:
    """Where a GPU is, an engine is proved."""


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y: Tensor = self.down(torch.relu(self.up(x)))
        return y, y.argmax(1)


class Chooses(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.encoder(x)
        chosen: Tensor = y[y > 0]
        return chosen


def example(rows: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"x": torch.randn(rows, 4)}


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return Encoder().eval()


@pytest.fixture(scope="module")
def events() -> list[deploy.Event]:
    return []


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, events: list[deploy.Event], ahead_of_time: None
) -> deploy.Export:
    return deploy.export(
        encoder(),
        example(),
        tmp_path_factory.mktemp("engines") / "encoder.edge",
        dimensions={"x": {0: "batch"}},
        ranges={"batch": Range(1, 16, 8)},
        formats="tensorrt-rtx",
        opset=17,
        engine=deploy.EngineOptions(("8.6", "8.9")),
        on_event=events.append,
    )


def test_an_engine_comes_with_the_onnx_file_that_is_proved(made: deploy.Export) -> None:
    onnx_file, engine = Bundle.read(made.bundle.path).manifest.artefacts
    assert (onnx_file.format, onnx_file.proved) == ("onnx", True)
    assert onnx_file.details["target"] == "tensorrt-rtx-1"
    assert (engine.format, engine.stored.file, engine.proved) == (
        "tensorrt-rtx",
        "model.rtx",
        False,
    )
    assert engine.details == {
        "engine": str(load("tensorrt-rtx")),
        "profile": "batch 1..16 (best at 8)",
        "compute_capabilities": "8.6, 8.9",
    }
    assert engine.stored.size_bytes > 1000


def test_what_is_not_proved_is_told(made: deploy.Export, events: list[deploy.Event]) -> None:
    attempts = [event for event in events if isinstance(event, deploy.Attempt)]
    assert [(a.format, a.outcome) for a in attempts[-2:]] == [
        ("onnx", "proved"), ("tensorrt-rtx", "built"),
    ]  # fmt: skip  # one line
    assert [r.outcome for r in made.report.backends if r.backend == "tensorrt-rtx"] == ["unusable"]
    (told,) = [note for note in made.notes if note.startswith("tensorrt-rtx: ")]
    assert told.startswith("tensorrt-rtx: model.rtx is built, not proved: ")
    assert told.endswith("; edgeport verify, on a machine with its GPU, proves it")


def test_the_manifest_says_it_and_is_what_its_schema_says(made: deploy.Export) -> None:
    told = json.loads((made.bundle.path / "manifest.json").read_text())
    schema = Path(runtimes.__file__).parent / "bundles/manifest.schema.json"
    jsonschema.validate(told, json.loads(schema.read_text()))
    assert [artefact.get("proved") for artefact in told["artefacts"]] == [None, False]


def test_verify_proves_the_rest_and_names_what_the_engine_needs(made: deploy.Export) -> None:
    report = runtimes.verify(made.bundle, threads=1)
    assert {r.backend: r.outcome for r in report.backends}["tensorrt-rtx"] == "unusable"
    assert report.passed
    with pytest.raises(BackendMissingError, match=r"tensorrt-rtx cannot be used here: .*GPU"):
        runtimes.verify(made.bundle, ["tensorrt-rtx"])
    with pytest.raises(BackendMissingError, match=r"model\.rtx.*GPU") as caught:
        runtimes.open(made.bundle.path, "tensorrt-rtx")
    assert caught.value.exit_code == 3


def test_a_refusal_names_the_layer_and_the_line(tmp_path: Path) -> None:
    torch.manual_seed(0)
    events: list[deploy.Event] = []
    with pytest.raises(ExportError) as caught:
        deploy.export(
            Chooses().eval(), example(), tmp_path / "m.edge", formats=["onnx", "tensorrt-rtx"],
            dimensions={"x": {0: "batch"}}, on_event=events.append,
        )  # fmt: skip  # as it reads
    lines = caught.value.problem.splitlines()
    assert lines[0].startswith("TensorRT-RTX: Chooses cannot be compiled: TensorRT-RTX ")
    assert lines[0].endswith(" has no NonZero")
    assert lines[1] == "  layer     Chooses"
    assert lines[2].startswith("  operator  NonZero, ONNX node ")
    assert lines[3].endswith("chosen: Tensor = y[y > 0]")
    assert "torch.where(mask, x, 0)" in caught.value.remedy
    assert caught.value.remedy.endswith("or leave TensorRT-RTX out: --format onnx")
    assert not list(tmp_path.iterdir())


class Asserts(nn.Module):
    """In code that no script takes."""

    def forward(self, x: Tensor) -> Tensor:
        known = {"x": lambda: x}
        assert x.max() < 50, "too large"
        return known["x"]() * 2


def test_an_engine_tells_what_the_onnx_file_refuses(tmp_path: Path) -> None:
    made = deploy.export(Asserts(), example(), tmp_path / "m.edge", formats="tensorrt-rtx")
    (told,) = [note for note in made.notes if ANSWERED in note]
    assert told == (
        "tensorrt-rtx: an output of its own, 'edgeport.answered', is false where the ONNX file "
        "refuses an input; sessions of edgeport refuse it too, and what else opens the engine has "
        "to ask it"
    )
    assert {each.name for each in made.source.signature.outputs} == {"output"}
    onnx_file, engine = made.bundle.manifest.artefacts
    assert (onnx_file.details.get("refuses_by"), engine.details["refuses_by"]) == (None, ANSWERED)
    assert {"model.onnx", "model.rtx"} <= {path.name for path in (tmp_path / "m.edge").iterdir()}
    assert not list((tmp_path / "m.edge").glob("*.rewritten.*"))


def test_an_engine_that_is_not_opened_is_not_called_wrong() -> None:
    report = BackendReport("tensorrt", "m.engine", "fail", "it is damaged", "copy it again")
    stored = StoredFile("m.engine", "0" * 64, 1)
    attempt = deploy.Attempt("tensorrt", "build", False, "ended", 0.0)
    made = _judged(attempt, Artefact("tensorrt", "float32", stored), (report,))
    assert made.diagnosis is not None
    assert (made.diagnosis.problem, made.diagnosis.remedy) == (
        "tensorrt: it is damaged",
        "copy it again",
    )


@pytest.mark.parametrize(
    ("dtype", "opset", "problem"),
    [
        (torch.float64, None, "the input 'x' is float64, tensorrt-rtx-1 takes bool, uint8"),
        (torch.float32, 27, "asked for ONNX opset 27, we write 13 to 24"),
    ],
)
def test_what_it_does_not_read_is_refused_at_once(
    tmp_path: Path, dtype: torch.dtype, opset: int | None, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        deploy.export(
            encoder().to(dtype), {"x": example()["x"].to(dtype)}, tmp_path / "m.edge",
            formats="tensorrt-rtx", opset=opset,
        )  # fmt: skip  # as it reads


CTRL_C = """
import sys, torch
from torch import nn
from edgeport import deploy
torch.manual_seed(0)
module = nn.Sequential(*(layer for _ in range(6) for layer in (nn.Linear(64, 64), nn.Tanh())))
def tell(event):
    if isinstance(event, deploy.Progress):
        print("building", flush=True)
try:
    deploy.export(module.eval(), {"input": torch.randn(2, 64)}, sys.argv[1],
                  formats="tensorrt-rtx", opset=17, on_event=tell)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_while_an_engine_is_built_leaves_nothing(tmp_path: Path) -> None:
    cache, place = tmp_path / "cache", tmp_path / "place"
    place.mkdir()
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(
        [sys.executable, "-c", CTRL_C, str(place / "m.edge")],
        stdout=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip  # as it reads
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert rest.endswith("stopped\n")
    assert not list(place.iterdir())
    assert not [path for path in (cache / "edgeport").rglob("*") if path.is_file()]
