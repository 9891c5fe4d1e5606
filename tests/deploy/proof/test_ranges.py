"""A static int8 file is judged where its values stay in the ranges that were measured."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgeport import deploy
from edgeport.deploy.proof.ranges import within_ranges
from edgeport.deploy.request import Request
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array


def rounded(path: Path) -> Path:
    """``y = round(2 x)`` in steps of 0.1 from -1 to 24.5, with ``x`` in steps of 1 from -128."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "int"], ["x8"]),
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("QuantizeLinear", ["twice", "tenth", "ten"], ["y"]),
    ]
    weights = {
        "one": np.float32(1), "int": np.int8(0), "tenth": np.float32(0.1), "ten": np.uint8(10),
    }  # fmt: skip  # one line
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, ["n"])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def golden(*values: float) -> Golden:
    return Golden("real", "real", {"x": np.array(values, np.float32)}, {}, {}, None)


@pytest.mark.parametrize(
    ("values", "inside"),
    [([0, 12.2], True), ([-0.5], True), ([-0.6], False), ([0, 12.3], False), ([], True)],
)
def test_values_stay_in_the_ranges_of_the_file(
    values: list[float], inside: bool, tmp_path: Path
) -> None:
    with within_ranges(rounded(tmp_path / "m.onnx"), [golden(0)]) as judged:
        assert judged({"x": np.array(values, np.float32)}) is inside


def test_what_a_module_rounds_by_channel_is_no_range(tmp_path: Path) -> None:
    node = helper.make_node("QuantizeLinear", ["x", "steps", "zeros"], ["y"], axis=0)
    weights: dict[str, Array] = {
        "steps": np.array([1, 2], np.float32), "zeros": np.zeros(2, np.int8),
    }  # fmt: skip  # one line
    graph = helper.make_graph(
        [node],
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "m.onnx")
    with within_ranges(tmp_path / "m.onnx", [golden(0, 0)]) as judged:
        assert judged({"x": np.array([900, 900], np.float32)})


def test_where_a_sample_gets_others_may(tmp_path: Path) -> None:
    with within_ranges(rounded(tmp_path / "m.onnx"), [golden(-3, 0)]) as judged:
        assert judged({"x": np.array([-2.9], np.float32)})
        assert not judged({"x": np.array([12.3], np.float32)})


def test_a_search_does_not_blame_int8_for_what_leaves_its_ranges(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
    near = np.random.default_rng(0).random((64, 1, 8), np.float32)
    near[..., 0] += 9  # which the search puts elsewhere
    source = deploy.source_of("m", module, {"input": near}, {"input": {0: "batch"}}, samples=[
        {"input": near[32:]}, {"input": near[:32]},
    ])  # fmt: skip  # one thing
    events: list[deploy.Event] = []
    request = Request(("onnx",), precision="int8", search_s=1)
    made = deploy.export_source(source, tmp_path / "m.edge", request, events.append)
    (found,) = (event for event in events if isinstance(event, deploy.Searched))
    assert str(made.bundle.manifest.artefacts[0].details["quantization"]).startswith("static, ")
    assert found.left_out > 0
    assert found.worst >= 20
