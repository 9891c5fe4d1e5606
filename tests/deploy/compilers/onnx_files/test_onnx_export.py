"""What torch's exporters to ONNX leave out or change, and dtypes that ONNX Runtime lacks."""

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.onnx_files import onnx_export
from edgeport.deploy.compilers.onnx_files.onnx_graph import finish
from edgeport.deploy.compilers.targets import OnnxRequest, negotiate
from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.runtimes import EdgeportError, ExportError, Range


class Ignores(nn.Module):
    def forward(self, x: Tensor, unused: Tensor) -> Tensor:
        return x + 1 if bool(x.sum() > 0) else x - 1


class Arctangent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.atan(x)


class Reduced(nn.Module):
    def __init__(self, reduce: Callable[[Tensor, int], Tensor]) -> None:
        super().__init__()
        self.reduce = reduce

    def forward(self, x: Tensor) -> Tensor:
        return self.reduce(x, 1)


class Bessel(nn.Module):
    """An operator that no route knows, behind what the first one refuses."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin() if x.shape[0] % 3 == 1 else torch.special.bessel_j0(x)


class Gated(nn.Module):
    """A stabilised gate, as of sLSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        opens, holds = self.gates(x).chunk(2, -1)
        kept, most = torch.zeros_like(opens[:, 0]), torch.zeros_like(opens[:, 0])
        steps = []
        for t in range(x.shape[1]):
            lasts = torch.nn.functional.logsigmoid(holds[:, t]) + most
            most = torch.maximum(lasts, opens[:, t])
            kept = torch.exp(lasts - most) * kept + torch.exp(opens[:, t] - most)
            steps.append(kept + lasts)
        return torch.stack(steps, 1)


class Rotary(nn.Module):
    """Angles of one row, for all rows and heads."""

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[2])[None, :, None] / torch.arange(1, 5)
        both = torch.cat((angles, angles), -1)
        turned = torch.cat((-x[..., 4:], x[..., :4]), -1)
        return x * both.cos().unsqueeze(1) + turned * both.sin().unsqueeze(1)


def exported(module: nn.Module, folder: Path, *inputs: Tensor) -> deploy.Export:
    return deploy.export(module, inputs, folder / "m.edge", formats="onnx")


def test_an_input_that_forward_does_not_use_is_declared(tmp_path: Path) -> None:
    source = deploy.source_of("m", Ignores(), (torch.randn(2, 3), torch.ones(4, dtype=torch.int64)))
    with quiet():
        onnx_export.recorded(source, tmp_path, OnnxRequest(20, 10))
    with runtimes.open(tmp_path / "model.onnx", backend="ort-cpu") as session:
        assert [spec.name for spec in session.signature.inputs] == ["x", "unused"]
        answer = session.run(
            {"x": -torch.ones(2, 3).numpy(), "unused": torch.ones(4).long().numpy()}
        )
    assert (answer["output"] == -2).all()


def test_what_is_no_valid_onnx_is_refused(tmp_path: Path) -> None:
    source = deploy.source_of("m", nn.Sigmoid(), {"x": torch.ones(2, 4)})
    given, made = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 4)) for name in ("x", "output")
    )
    node = helper.make_node("Slice", ["x", "x", "x"], ["output"])  # by floats
    model = helper.make_model(helper.make_graph([node], "g", [given], [made]))
    with pytest.raises(ExportError, match="exporter wrote an invalid file: ") as caught:
        finish(model, source, negotiate(), tmp_path)
    assert caught.value.remedy.startswith("try another --opset between ")
    assert list(tmp_path.iterdir()) == []


def test_a_dtype_without_a_kernel_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(EdgeportError, match="ONNX Runtime has no Atan of opset 7") as caught:
        exported(Arctangent(), tmp_path, torch.randn(2, 3).double())
    assert "return torch.atan(x)" in str(caught.value)
    assert "compute it in float32" in str(caught.value)


def test_a_dtype_that_an_operator_of_onnx_has_not_is_told(tmp_path: Path) -> None:
    with pytest.raises(EdgeportError, match="ONNX has no ReduceMax of int16") as caught:
        exported(Reduced(Tensor.amax), tmp_path, torch.ones(2, 3, dtype=torch.int16))
    assert caught.value.remedy.startswith("compute it in float32 or int64")


@pytest.mark.parametrize("reduce", [Tensor.sum, Tensor.amax, Tensor.prod, Tensor.cumsum])
def test_what_is_added_up_in_float16_stays_one(reduce: Any, tmp_path: Path) -> None:
    half = torch.randn(2, 3).half()
    module = Reduced(reduce)
    source = deploy.source_of("m", module, half)
    with quiet():
        onnx_export.dynamo(source, tmp_path, negotiate())
    with runtimes.open(tmp_path / "model.onnx") as session:
        (found,) = session.run({"x": half.numpy()}).values()
    torch.testing.assert_close(torch.tensor(found), module(half))


def test_what_the_first_route_refuses_is_told_first(tmp_path: Path) -> None:
    with pytest.raises(EdgeportError, match="cannot be compiled: forward fixes the dim") as caught:
        deploy.export(
            Bessel(), torch.randn(2, 3), tmp_path / "m.edge", formats="onnx",
            dimensions={"x": {0: "rows"}},
        )  # fmt: skip  # one call
    told = "trace      refused: prims.bessel_j0.default has no translation to ONNX"
    assert told in str(caught.value)


class Median(nn.Module):
    """ONNX has no median, and torch's exporter takes ``addcmul`` apart."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(x, x, x).median(-1).values


class Layers(nn.Module):
    """ONNX has all of it, and the numbers that are sizes are none of operators."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Linear(5, 4), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = (self.first(x) * self.gate(x).tanh()).relu()
        return gated / (x.shape[0] * 2 + 1)


class Writes(nn.Module):
    """ONNX has no write into a slice."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.exp()
        y[:, 0] = x[:, 1]
        return y


@pytest.mark.parametrize(
    ("module", "passes", "operators"),
    [
        (Median(), 1, {"Mul", "TopK"}),
        (Layers(), 0, {"Gemm", "Tanh", "Relu", "Div"}),
        (Writes(), 1, {"Exp"}),
        (nn.Sequential(nn.Linear(5, 4), nn.Dropout()), 1, {"Gemm"}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_program_is_taken_apart_once_at_most(
    module: nn.Module,
    passes: int,
    operators: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []

    def count(owner: Any, name: str) -> None:
        own = getattr(owner, name)

        def counted(*arguments: Any) -> Any:
            seen.append(name)
            return own(*arguments)

        monkeypatch.setattr(owner, name, counted)

    count(torch.export.ExportedProgram, "run_decompositions")
    count(torch._C, "_dispatch_get_registrations_for_dispatch_key")
    example = {"input" if isinstance(module, nn.Sequential) else "x": torch.randn(2, 5)}
    source = deploy.source_of("m", module.eval(), example, {name: {0: "rows"} for name in example})
    with quiet(), inference_only():
        made = onnx_export.dynamo(source, tmp_path, OnnxRequest(20, 10))
    assert seen.count("run_decompositions") == passes
    assert seen.count("_dispatch_get_registrations_for_dispatch_key") <= 1
    graph = onnx.load(tmp_path / made.artefact.files[0].file).graph
    assert {node.op_type for node in graph.node} >= operators
    assert "Dropout" not in {node.op_type for node in graph.node}


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if bool(x.mean() > 0):
            x = x * 2
        return functional.interpolate(x, size=32)


@pytest.mark.slow
def test_a_script_is_converted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Gated().eval()
    tried: list[tuple[str, str]] = []

    def note(event: deploy.Event) -> None:
        if isinstance(event, deploy.Attempt):
            tried.append((event.route, event.outcome))

    made = deploy.export(
        module, {"x": torch.randn(2, 4, 6)}, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {0: "batch", 1: "time"}}, on_event=note,
    )  # fmt: skip  # one call
    assert tried == [("dynamo", "refused"), ("converted", "proved")]
    x = torch.randn(3, 17, 6)
    with made.bundle.open("ort-cpu") as session:
        (found,) = session.run({"x": x.numpy()}).values()
    torch.testing.assert_close(torch.tensor(found), module(x))


@pytest.mark.slow
def test_images_are_resized_in_branches_as_torch_does(tmp_path: Path) -> None:
    module = Doubled()
    made = deploy.export(
        module, {"x": torch.randn(2, 1, 12)}, tmp_path / "m.edge", formats="onnx",
        dimensions={"x": {2: "width"}}, ranges={"width": Range(8)},
    )  # fmt: skip  # one call
    with made.bundle.open("ort-cpu") as session:
        for width in (14, 26, 28, 30, 52, 90, 190):
            x = torch.randn(2, 1, width)
            (found,) = session.run({"x": x.numpy()}).values()
            assert torch.equal(torch.tensor(found), module(x))


def test_what_a_script_became_has_the_lines_of_the_users_code(tmp_path: Path) -> None:
    free = {"x": {2: "width"}}
    source = deploy.source_of("m", Doubled(), torch.randn(2, 1, 12), free, {"width": Range(8)})
    with quiet():
        made = onnx_export.converted(source, tmp_path, OnnxRequest(20, 10))
    nodes = json.loads(made.debug_map or "")["nodes"]
    sources = {node["operator"]: Path(node["source"] or "").name for node in nodes}
    lines, first = inspect.getsourcelines(Doubled)
    line = next(number for number, text in enumerate(lines, first) if "x.mean()" in text)
    assert sources["ReduceMean"] == sources["If"] == f"{Path(__file__).name}:{line}"


def test_angles_of_one_row_at_opset_23(tmp_path: Path) -> None:
    """onnxscript makes a RotaryEmbedding of them, which takes no fewer rows than it turns."""
    tried: list[str] = []
    deploy.export(
        Rotary(), {"x": torch.randn(2, 3, 5, 8)}, tmp_path / "m.edge", formats="onnx", opset=23,
        dimensions={"x": {0: "batch", 2: "time"}},
        on_event=lambda event: tried.append(getattr(event, "outcome", "")),
    )  # fmt: skip  # one call
    assert [outcome for outcome in tried if outcome] == ["proved"]
