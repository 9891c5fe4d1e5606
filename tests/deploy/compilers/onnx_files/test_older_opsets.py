"""An older opset has what a newer one says in other words, or is refused."""

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy
from edgeport.deploy.compilers.onnx_files.older_opsets import OlderOpsetError, lower
from edgeport.runtimes import EdgeportError, Range


class Words(nn.Module):
    """Nearly all whose words have changed between 13 and 18."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.plain = nn.LayerNorm([3, 6], bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        even, odd = self.norm(x).chunk(2, -1)
        rows = x.flatten(1)
        longer = functional.pad(rows, (2, 1)).reshape(x.shape[0], 3, -1)
        image = functional.interpolate(x[None], size=(9, x.shape[0]))
        return (
            functional.mish(even) * functional.hardswish(odd),
            self.plain(x).amax((1, 2)) + x.logsumexp(2).mean(),
            longer.norm(dim=-1),
            image * x.shape[0],
        )


@pytest.mark.usually("13")
@pytest.mark.parametrize("opset", range(13, 19))
def test_models_are_the_same_in_each_opset(opset: int, tmp_path: Path) -> None:
    module = Words().eval()
    tried: list[tuple[str, str]] = []

    def note(event: deploy.Event) -> None:
        if isinstance(event, deploy.Attempt):
            tried.append((event.route, event.outcome))

    made = deploy.export(
        module, {"x": torch.randn(2, 3, 6)}, tmp_path / "m.edge", formats="onnx", opset=opset,
        dimensions={"x": {0: "rows"}}, on_event=note,
    )  # fmt: skip  # one call
    assert tried == [("dynamo", "proved")]
    assert onnx.load(tmp_path / "m.edge" / "model.onnx").opset_import[0].version == opset
    x = torch.randn(14, 3, 6)
    with made.bundle.open("ort-cpu") as session:
        found = session.run({"x": x.numpy()}).values()
    for answer, expected in zip(found, module(x), strict=True):
        torch.testing.assert_close(torch.from_numpy(answer), expected)


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 0):
            x = x.mean(1, keepdim=True) * 2
        return functional.mish(x).sum(1)


@pytest.mark.slow
def test_words_in_branches_are_older_too(tmp_path: Path) -> None:
    made = deploy.export(
        Doubled(), {"x": torch.randn(2, 4)}, tmp_path / "m.edge", formats="onnx", opset=17,
        dimensions={"x": {0: "rows"}}, ranges={"rows": Range(1)},
    )  # fmt: skip  # one call
    with made.bundle.open("ort-cpu") as session:
        for sign in (1, -1):
            x = torch.rand(5, 4) * sign
            answer = session.run({"x": x.numpy()})["output"]
            torch.testing.assert_close(torch.from_numpy(answer), Doubled()(x))


class Masks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x & 6


def test_what_an_older_opset_lacks_is_told(tmp_path: Path) -> None:
    problem = "ONNX: Masks cannot be compiled: ONNX opset 17 has no BitwiseAnd\n"
    with pytest.raises(EdgeportError, match=problem) as caught:
        deploy.export(
            Masks(), torch.arange(6).reshape(2, 3), tmp_path / "m.edge", formats="onnx", opset=17,
            dimensions={"x": {0: "rows"}},
        )  # fmt: skip  # one call
    assert caught.value.remedy == "ask for a newer --opset, or leave it out: 20 is written then"


def model_of(kind: str, *inputs: str, opset: int = 18, **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(kind, inputs, ["y"], **attributes)
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip  # one call
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(("model", "problem"), [
    (model_of("ReduceMax", "x", "axes"), "ReduceMax takes fixed axes alone in ONNX opset 17"),
    (model_of("Pad", "x", "pads", "", "axes"), "Pad takes no axes in ONNX opset 17"),
    (model_of("Resize", "x", "", "", "n", antialias=1), "Resize has no antialias in ONNX opset 17"),
    (model_of("ScatterND", "x", "n", "y", reduction="max"), "ScatterND takes no max in ONNX"),
    (model_of("Col2Im", "x", "size", "block"), "ONNX opset 17 has no Col2Im"),
])  # fmt: skip  # a table
def test_other_meanings_are_refused(model: onnx.ModelProto, problem: str) -> None:
    with pytest.raises(OlderOpsetError, match=problem):
        lower(model, 17)


def test_a_model_of_an_older_opset_stays_as_it_is() -> None:
    model = model_of("Relu", "x", opset=14)
    before = model.SerializeToString()
    lower(model, 17)
    assert model.SerializeToString() == before
