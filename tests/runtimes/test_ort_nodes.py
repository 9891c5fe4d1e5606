"""Nodes on the CPU: those that only compute with sizes belong there, all others are named."""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeport.runtimes.ort_nodes import RECORD, on_cpu, only_sizes


def write(path: Path, nodes: list[onnx.NodeProto], outputs: list[str]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outputs],
        [helper.make_tensor("one", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def flatten(path: Path) -> Path:
    """Relu, and a reshape whose target is computed from the input's sizes."""
    return write(
        path,
        [
            helper.make_node("Relu", ["x"], ["r"], name="relu"),
            helper.make_node("Shape", ["r"], ["s"], name="shape"),
            helper.make_node("ReduceProd", ["s"], ["p"], name="product", keepdims=1),
            helper.make_node("Mul", ["p", "one"], ["t"], name="times_one"),
            helper.make_node("Reshape", ["r", "t"], ["y"], name="reshape"),
            helper.make_node("NonZero", ["y"], ["z"]),
        ],
        ["y", "z"],
    )


def test_what_reads_sizes_alone_is_told(tmp_path: Path) -> None:
    assert only_sizes(flatten(tmp_path / "m.onnx")) == {
        "shape": "Shape",
        "product": "ReduceProd",
        "times_one": "Mul",
    }


def test_what_ends_on_the_cpu_is_named(tmp_path: Path) -> None:
    path = flatten(tmp_path / "m.onnx")
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.add_session_config_entry(RECORD, "1")
    opened = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    assert on_cpu(opened, path) == ("Relu relu", "Reshape reshape", "NonZero")


def test_an_older_onnxruntime_does_not_tell(tmp_path: Path) -> None:
    assert on_cpu(object(), tmp_path / "m.onnx") is None


def test_a_branch_reads_what_it_captures(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["i"])],
        "body",
        [],
        [helper.make_tensor_value_info("i", TensorProto.FLOAT, None)],
    )
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("Size", ["x"], ["n"], name="size"),
            helper.make_node("Cast", ["n"], ["c"], name="cast", to=TensorProto.BOOL),
            helper.make_node("If", ["c"], ["y"], name="if", then_branch=body, else_branch=body),
            helper.make_node("RandomNormal", [], ["q"], name="random", shape=[2]),
        ],
        ["y", "q"],
    )
    assert only_sizes(path) == {"size": "Size", "cast": "Cast"}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_to_their_end(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(data)
        assert isinstance(only_sizes(path), dict)
