from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.onnx_files.string_input import (
    FORMAT,
    strings_before,
    table_of,
    with_strings,
)
from edgeport.deploy.compilers.targets import find_target, negotiate
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import ExportError, Range, UsageError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.text import encode

TEXTS = ["SHOUT! and not", "", "quiet", "ÀÉ ΑΣ İ", "A\0B", "\U0001f600 OK \ufeff\u2028"]
AXES = {"text": {0: "batch", 1: "characters"}}
LONG = {"characters": Range(8)}


class Shouts(nn.Module):
    """Scores capital letters of ASCII and, twice, code points above them."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(2, 1)

    def forward(self, text: Tensor) -> Tensor:
        capital = ((text >= 65) & (text <= 90)).sum(1)
        return torch.tanh(self.score(torch.stack([capital, (text > 90).sum(1)], 1).float()))


class Says(Shouts):
    """The same, and it says which code points are alike."""

    @property
    def alike(self) -> dict[str, Array]:
        points = np.arange(0x110000)
        return {"text": (points >= 65).astype(int) + (points > 90)}


def source_of(module: nn.Module, dimensions: Any = AXES, **inputs: Tensor) -> Source:
    example = inputs or {"text": torch.tensor(encode(TEXTS))}
    ranges = {
        name: Range(8) for axes in dimensions.values() for name in axes.values() if name != "batch"
    }
    return deploy.source_of("m", module, example, dimensions, ranges)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("strings") / "shouts.edge"
    example = {"text": torch.tensor(encode(TEXTS))}
    deploy.export(
        Says(), example, output,
        dimensions=AXES, ranges=LONG, samples=[{"text": encode(TEXTS)}], formats="onnx",
        search_s=0.5,
    )  # fmt: skip
    return output


def ask(path: Path, texts: list[str]) -> Array:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"text": np.array(texts, dtype=object)})
    return np.asarray(answer)


def test_stock_onnx_runtime_takes_strings(said: Path) -> None:
    with runtimes.open(said, "ort-cpu") as session:
        expected = session.run({"text": encode(TEXTS)})["output"]
    np.testing.assert_array_equal(ask(said / "strings.onnx", TEXTS), expected)
    np.testing.assert_array_equal(ask(said / "strings.onnx", [""]), expected[1:2])
    assert len(np.unique(expected)) > 3


def test_it_is_made_unasked_and_proved(said: Path) -> None:
    bundle = runtimes.Bundle.read(said)
    assert bundle.backends == ("ort-cpu", "ort-cuda", "ort-strings")
    report = runtimes.verify(bundle)
    assert [each.outcome for each in report.backends] == ["pass", "pass"]
    strings = bundle.artefact("ort-strings")
    assert (strings.format, strings.details["input"]) == (FORMAT, "strings")
    assert strings.stored.size_bytes < 20_000  # 26 characters, and what comes before them


def test_every_code_point_is_the_same_by_either_way(said: Path) -> None:
    points = [chr(p) for p in range(0x110000) if not 0xD800 <= p < 0xE000]
    texts = ["".join(points[first : first + 997]) for first in range(0, len(points), 997)]
    with runtimes.open(said, "ort-cpu") as session:
        expected = session.run({"text": encode(texts)})["output"]
    np.testing.assert_array_equal(ask(said / "strings.onnx", texts), expected)


def test_characters_that_are_alike_have_one_number() -> None:
    alike = np.zeros(0x110000, int)
    alike[[65, 97]], alike[66], alike[0xD800] = 1, 2, 3
    assert table_of(alike) == (["A", "B", "a"], [65, 66, 65], 0)


@pytest.mark.slow
def test_a_module_that_says_nothing_gets_it_if_asked(tmp_path: Path) -> None:
    source = source_of(Shouts())
    assert with_strings(["onnx", "pt2"], source) == ("onnx", "pt2")
    assert with_strings([FORMAT, "onnx"], source) == ("onnx", FORMAT)
    request = negotiate(13)
    points = helper.make_tensor_value_info("text", onnx.TensorProto.INT32, ["batch", "characters"])
    rows = helper.make_tensor_value_info("output", onnx.TensorProto.INT32, ["batch", "n"])
    same = helper.make_node("Identity", ["text"], ["output"])
    graph = helper.make_graph([same], "g", [points], [rows])
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=7), tmp_path / "model.onnx")
    made = strings_before(source, tmp_path, request)
    found = ask(tmp_path / made.artefact.stored.file, ["é\0\U0010ffff", "a"])
    assert found[:, :3].tolist() == [[233, 0, 0x10FFFF], [97, -1, -1]]
    assert found.shape == (2, 11)


def test_where_it_is_made() -> None:
    source = source_of(Says())
    assert with_strings(["torchscript", "onnx"], source) == ("torchscript", "onnx", FORMAT)
    assert with_strings(["torchscript"], source) == ("torchscript",)
    assert with_strings(["onnx"], source, find_target("tensorrt-10")) == ("onnx",)
    assert with_strings(["onnx"], source, find_target("ort-1.20")) == ("onnx", FORMAT)


class Two(nn.Module):
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one.sum(1) - other.sum(1)


def test_what_it_cannot_be_made_for(tmp_path: Path) -> None:
    texts = torch.tensor(encode(TEXTS))
    axes = {"one": AXES["text"], "other": AXES["text"]}
    with pytest.raises(UsageError, match=f"cannot make {FORMAT}.*; this one has 2"):
        with_strings(["onnx", FORMAT], source_of(Two(), axes, one=texts, other=texts))
    with pytest.raises(UsageError, match="it needs onnx beside it"):
        with_strings([FORMAT], source_of(Says()))
    with pytest.raises(UsageError, match="ONNX Runtime as the target"):
        with_strings(["onnx", FORMAT], source_of(Says()), find_target("tensorrt-11"))
    (tmp_path / "model.onnx.data").touch()
    with pytest.raises(ExportError, match=r"model\.onnx keeps its weights in a file of their own"):
        strings_before(source_of(Says()), tmp_path, negotiate())


def test_a_module_that_returns_its_text(tmp_path: Path) -> None:
    points = helper.make_tensor_value_info("text", onnx.TensorProto.INT32, ["batch", "characters"])
    graph = helper.make_graph([], "g", [points], [points])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(ExportError, match="the module returns its input 'text' as it is"):
        strings_before(source_of(Says()), tmp_path, negotiate())
