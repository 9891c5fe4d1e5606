"""The localiser against artefacts that are wrong in a known place, on real engines."""

import contextlib
import io
import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgeport.deploy import Localisation, Source, localise, make_call, make_source
from edgeport.deploy.compilers import pt2, torchscript
from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.deploy.proof.reference import Reference, make_golden
from edgeport.runtimes import ExistingFileError, TensorSpec, UsageError
from edgeport.runtimes.bundles.golden import Golden


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 12), nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.down(self.up(x).relu())
        return y


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(x))
        return y


def make_net(scaled: str | None = None) -> Net:
    torch.manual_seed(0)
    net = Net().eval()
    if scaled:
        with torch.no_grad():
            net.get_parameter(scaled).mul_(1.01)
    return net


def source_of(module: nn.Module, width: int = 6) -> Source:
    call = make_call(module, (), {"x": torch.randn(3, width)})
    spec = TensorSpec("x", "float32", ("batch", width))
    return make_source("net", module, call, [spec], {})


def sample_of(source: Source) -> Golden:
    return next(
        sample for sample in make_golden(Reference(source)) if sample.name == "random, batch=7"
    )


def to_onnx(net: Net) -> onnx.ModelProto:
    """Written by hand: no exporter notes anything in it."""
    nodes, weights, x = [], [], "x"

    def gemm(layer: str, given: str) -> str:
        for name, tensor in net.get_submodule(layer).named_parameters():
            weights.append(numpy_helper.from_array(tensor.detach().numpy(), f"{layer}/{name}"))
        inputs = [given, f"{layer}/weight", f"{layer}/bias"]
        nodes.append(helper.make_node("Gemm", inputs, [f"{layer}/y"], f"gemm {layer}", transB=1))
        return f"{layer}/y"

    for block in ("blocks.0", "blocks.1"):
        up = gemm(f"{block}.up", x)
        nodes.append(helper.make_node("Relu", [up], [f"{block}/r"]))
        down = gemm(f"{block}.down", f"{block}/r")
        nodes.append(helper.make_node("Add", [x, down], [f"{block}/s"]))
        x = f"{block}/s"
    nodes.append(helper.make_node("Identity", [gemm("head", x)], ["output"]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 3])],
        weights,
    )
    opset = helper.make_opsetid("", 20)
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[opset], ir_version=10)
    return model


def found_in(model: onnx.ModelProto, folder: Path, **options: Any) -> Localisation:
    source = source_of(make_net())
    onnx.save(model, folder / "model.onnx")
    return localise(source, folder / "model.onnx", sample_of(source), **options)


@pytest.mark.parametrize("layer", ["blocks.0.up", "blocks.0.down", "blocks.1.up", "head"])
def test_a_weight_is_traced_to_its_layer_without_any_names(tmp_path: Path, layer: str) -> None:
    found = found_in(to_onnx(make_net(f"{layer}.weight")), tmp_path)
    assert (found.module, found.kind, found.operator) == (layer, "Linear", "Gemm")
    assert found.node == f"gemm {layer}"
    assert (found.format, found.backend, found.sample) == ("onnx", "ort-cpu", "random, batch=7")
    assert found.reproduced is True
    assert set(found.levels.values()) == {False}
    weight = next(t for t in found.tensors if t.name == f"{layer}/weight")
    assert weight.eager is not None
    assert weight.backend is not None
    assert weight.backend.rms == pytest.approx(1.01 * weight.eager.rms)
    given, answer = found.tensors[0], found.tensors[-1]
    assert given.ratio is not None
    assert answer.ratio is not None
    assert given.ratio < 8 < 1000 < answer.ratio


def test_the_walk_is_right_up_to_the_layer_and_wrong_from_there(tmp_path: Path) -> None:
    found = found_in(to_onnx(make_net("blocks.0.down.bias")), tmp_path)
    told = [(step.name, step.ratio > 8) for step in found.walk]
    assert told[:3] == [("blocks.0.up", False), ("blocks.0", False), ("blocks.0.down", True)]
    assert told[-1] == ("head", True)
    assert [step.depth for step in found.walk] == list(range(len(found.walk)))
    assert all(step.floor > 0 for step in found.walk)


def test_scripted_code_has_its_class_and_no_line_of_who_exports(tmp_path: Path) -> None:
    jit: Any = torch.jit  # it has no types
    buffer = io.BytesIO()
    with quiet():
        jit.save(jit.script(make_net()), buffer)
        buffer.seek(0)
        source = source_of(jit.load(buffer))
    path = tmp_path / "model.onnx"
    onnx.save(to_onnx(make_net("blocks.1.up.weight")), path)
    found = localise(source, path, sample_of(source))
    assert (found.module, found.kind, found.source) == ("", "Net", None)


def test_another_operator_at_the_users_line(tmp_path: Path) -> None:
    model = to_onnx(make_net())
    node = next(node for node in model.graph.node if node.output[0] == "blocks.1/r")
    node.op_type = "Abs"
    found = found_in(model, tmp_path)
    assert (found.module, found.torch_operator, found.operator) == ("blocks.1", "relu", "Abs")
    assert found.source is not None
    assert "test_search.py:" in found.source
    assert "self.down(self.up(x).relu())" in found.source
    assert "diverges  blocks.1 (Block)" in str(found)


def test_what_a_file_fails_at(tmp_path: Path) -> None:
    model = to_onnx(make_net())
    for node in model.graph.node:
        if node.output[0] == "blocks.1/r":
            node.op_type, node.name = "Reshape", "baked"
            node.input.append("shape")
    model.graph.initializer.append(numpy_helper.from_array(np.array([5, 12], np.int64), "shape"))
    found = found_in(model, tmp_path)
    assert (found.module, found.node, found.operator) == ("blocks.1", "baked", "Reshape")
    assert any("the artefact fails: ONNX Runtime failed" in note for note in found.notes)
    assert found.levels == {}


def test_values_are_compared_in_part_where_memory_is_short(tmp_path: Path) -> None:
    found = found_in(to_onnx(make_net("blocks.1.up.weight")), tmp_path, memory_bytes=1)
    assert found.module == "blocks.1.up"


def test_a_debug_map_names_the_module_of_a_node(tmp_path: Path) -> None:
    """Two layers in one node: values alone can't tell that it is the second."""
    net = make_net()
    model = to_onnx(net)
    node = {"node": "gemm head", "operator": "Gemm", "module": "blocks", "source": None}
    debug_map = json.dumps({"debug_map_version": 1, "nodes": [node]})
    tensor = next(t for t in model.graph.initializer if t.name == "head/weight")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 2, tensor.name))
    found = found_in(model, tmp_path, debug_map=debug_map)
    assert found.module == "blocks"
    assert found.fused == ("head",)


def test_the_case_runs_alone_and_shows_the_difference(tmp_path: Path) -> None:
    found = found_in(to_onnx(make_net("blocks.1.up.weight")), tmp_path, repro=tmp_path / "repro")
    assert {p.name for p in (tmp_path / "repro").iterdir()} == {
        "model.onnx",
        "inputs.npz",
        "repro.py",
    }
    model = onnx.load(tmp_path / "repro" / "model.onnx")
    onnx.checker.check_model(model)
    assert [n.op_type for n in model.graph.node] == ["Identity", "Gemm"]
    case = np.load(tmp_path / "repro" / "inputs.npz")
    x = case["input_0"].astype(np.float64)
    layer = make_net().get_submodule("blocks.1.up").double()
    right = layer(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(case["oracle"], right, rtol=1e-5, atol=1e-6)
    text = (tmp_path / "repro" / "repro.py").read_text()
    assert str(tmp_path) not in text
    assert "import onnxruntime" in text
    assert "torch" not in text
    assert found.repro["repro.py"].decode() == text
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(tmp_path / "repro" / "repro.py"))
    figures = [float(line.rpartition(":")[2]) for line in printed.getvalue().splitlines()[1:]]
    assert figures[0] > 1e-3 > 1e-5 > figures[1]


@pytest.mark.parametrize("route", [torchscript.script, torchscript.trace, pt2.export])
def test_torch_archives(tmp_path: Path, route: Any) -> None:
    with quiet(), inference_only():
        compiled = route(source_of(make_net("blocks.1.down.weight")), tmp_path)
    source = source_of(make_net())
    path = tmp_path / compiled.artefact.stored.file
    found = localise(source, path, sample_of(source), repro=tmp_path / "repro")
    assert found.module == "blocks.1.down"
    assert found.operator in ("addmm", "linear")
    assert found.levels == {}
    assert found.reproduced is True
    printed = io.StringIO()
    with quiet(), contextlib.redirect_stdout(printed):
        runpy.run_path(str(tmp_path / "repro" / "repro.py"))
    largest = float(printed.getvalue().splitlines()[1].rpartition(":")[2])
    assert largest > 1e-4


class Reciprocal(nn.Module):
    """Overflows in between; ONNX Runtime's optimiser divides at once, which does not."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((4,), 1e-3))

    def forward(self, x: Tensor) -> Tensor:
        return (1 / x) * self.scale


def test_the_optimisation_levels_that_are_wrong_are_named(tmp_path: Path) -> None:
    source = source_of(Reciprocal().eval(), 4)
    sample = sample_of(source)
    x = np.full((2, 4), 1e-39, np.float32)
    eager = {"output": np.full((2, 4), np.inf, np.float32)}
    sample = Golden("small", "real", {"x": x}, eager, {})
    nodes = [
        helper.make_node("Div", ["one", "x"], ["d"], "div"),
        helper.make_node("Mul", ["d", "scale"], ["output"], "mul"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 4])],
        [
            numpy_helper.from_array(np.array(1, np.float32), "one"),
            numpy_helper.from_array(np.full(4, 1e-3, np.float32), "scale"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    found = localise(source, tmp_path / "model.onnx", sample)
    assert found.failing_levels == ("basic", "extended", "all")
    assert found.levels["disable"] is True
    assert "only at graph optimisation level basic, extended, all" in str(found)
    assert "these nodes are ONNX Runtime's, at level basic" in found.notes[0]
    assert found.operator == "Div"


def test_json_is_plain(tmp_path: Path) -> None:
    found = found_in(to_onnx(make_net("head.weight")), tmp_path)
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["localisation_version"] == 1
    assert plain["module"] == "head"
    assert plain["walk"][-1]["ratio"] > 8
    assert "repro" not in plain


def test_a_right_artefact_is_said_to_be_right(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.onnx computes what the module computes on"):
        found_in(to_onnx(make_net()), tmp_path)


def test_an_unknown_file_and_an_existing_folder_are_refused(tmp_path: Path) -> None:
    source = source_of(make_net())
    with pytest.raises(UsageError, match=r"model\.engine is no artefact that can be looked into"):
        localise(source, tmp_path / "model.engine", sample_of(source))
    with pytest.raises(ExistingFileError, match="exists already"):
        found_in(to_onnx(make_net("head.weight")), tmp_path, repro=tmp_path)
