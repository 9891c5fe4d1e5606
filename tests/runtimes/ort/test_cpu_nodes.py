"""Nodes on the CPU: those that only compute with sizes belong there, all others are named."""

from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeport.runtimes.ort.cpu_nodes import RECORD, Sizes, on_cpu, read_sizes


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
    assert read_sizes(flatten(tmp_path / "m.onnx")).nodes == {
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
    assert read_sizes(path).nodes == {"size": "Size", "cast": "Cast"}


def test_a_body_computes_with_sizes_too(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Shape", ["x"], ["s"], name="shape"),
            helper.make_node("Squeeze", ["s", "one"], ["q"], name="squeeze"),
            helper.make_node("Add", ["state", "q"], ["next"], name="add"),
            helper.make_node("Identity", ["c"], ["go"], name="go"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.INT64, [2]),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, [2]),
        ],
    )
    node = helper.make_node("Loop", ["", "", "one"], ["y"], name="loop", body=body)
    found = read_sizes(write(tmp_path / "m.onnx", [node], ["y"]))
    assert found.nodes == {"shape": "Shape", "squeeze": "Squeeze"}
    assert found.others == {"add", "go", "loop"}


def test_what_onnxruntime_asks_in_place_of_the_sizes_of_something_transposed(
    tmp_path: Path,
) -> None:
    """Which it does with sizes alone, by a node that the file doesn't have."""
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("Transpose", ["x"], ["t"], name="transpose", perm=[1, 0]),
            helper.make_node("Relu", ["t"], ["r"], name="relu"),
            helper.make_node("Shape", ["r"], ["s"], name="shape"),
            helper.make_node("Transpose", ["r"], ["y"], name="back", perm=[1, 0]),
        ],
        ["s", "y"],
    )
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry(RECORD, "1")
    opened = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    made = [n.op_type for p in opened.get_provider_graph_assignment_info() for n in p.get_nodes()]
    assert "Gather" in made
    assert on_cpu(opened, path) == ("Relu relu",)


def test_a_gather_of_the_file_is_not_taken_for_one_of_sizes(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.onnx",
        [
            helper.make_node("Transpose", ["x"], ["t"], name="transpose", perm=[1, 0]),
            helper.make_node("Shape", ["t"], ["s"], name="shape"),
            helper.make_node("Gather", ["x", "one"], ["g"], name="Gather"),
        ],
        ["s", "g"],
    )
    assert not read_sizes(path).knows("Gather", "Gather")
    assert read_sizes(path).knows("Gather", "Gather_token_3")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_to_their_end(data: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(data)
        assert isinstance(read_sizes(path), Sizes)
