from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgeport.deploy.compilers.onnx_files.sigmoids import write_out_sigmoids
from edgeport.runtimes.inputs import Array

LEVELS = (
    onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
)


def model(
    nodes: list[onnx.NodeProto], dtype: int = onnx.TensorProto.FLOAT, typed: bool = True
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    inner = {name for node in nodes for name in node.output} - {"y"}
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", dtype, ["n", 4])],
        [value("y", dtype, ["n", 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
        value_info=[value(name, dtype, None) for name in sorted(inner)] if typed else [],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def operators(made: onnx.ModelProto) -> list[str]:
    write_out_sigmoids(made)
    onnx.checker.check_model(made)
    return [node.op_type for node in made.graph.node]


WRITTEN = ["Neg", "Exp", "Add", "Reciprocal"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_digit_is_right(level: onnxruntime.GraphOptimizationLevel, dtype: type) -> None:
    made = model(
        [helper.make_node("Sigmoid", ["x"], ["y"], "n")],
        helper.np_dtype_to_tensor_dtype(np.dtype(dtype)),
    )
    assert operators(made) == WRITTEN
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(made.SerializeToString(), options)
    x: Array = np.linspace(-87, 200, 4000).astype(dtype).reshape(-1, 4)
    answer = np.asarray(session.run(None, {"x": x})[0])
    truth = 1 / (1 + np.exp(-x.astype(np.longdouble)))
    assert (np.abs(answer - truth) / truth).max() < 2 * np.finfo(dtype).eps
    extreme: Array = np.array([[-np.inf, np.inf, np.nan, -500]], dtype)
    ends = np.asarray(session.run(None, {"x": extreme})[0])
    assert ends[0, :2].tolist() == [0, 1]
    assert np.isnan(ends[0, 2])
    assert 0 <= ends[0, 3] < 1e-38


def test_the_last_node_keeps_name_and_notes() -> None:
    node = helper.make_node("Sigmoid", ["x"], ["y"], "n", doc_string="note")
    node.metadata_props.add(key="k", value="v")
    made = model([node])
    operators(made)
    last = made.graph.node[-1]
    assert (last.name, last.doc_string, last.metadata_props[0].value) == ("n", "note", "v")


@pytest.mark.parametrize("between", ["Mul", "Concat", "Identity", "ReduceMean", "Log"])
def test_what_reaches_an_output_is_written_out(between: str) -> None:
    others = ["x"] if between in ("Mul", "Concat") else []
    attributes: dict[str, Any] = {"axis": 0} if between == "Concat" else {}
    made = model(
        [
            helper.make_node("Sigmoid", ["x"], ["s"], "n"),
            helper.make_node(between, ["s", *others], ["y"], "m", **attributes),
        ]
    )
    assert operators(made) == [*WRITTEN, between]


def test_what_goes_into_weights_stays() -> None:
    made = model(
        [
            helper.make_node("Sigmoid", ["x"], ["s"], "n"),
            helper.make_node("MatMul", ["s", "w"], ["m"], "m"),
            helper.make_node("Sigmoid", ["m"], ["y"], "o"),
        ]
    )
    assert operators(made) == ["Sigmoid", "MatMul", *WRITTEN]


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize(
    ("dtype", "first"),
    [(onnx.TensorProto.FLOAT, WRITTEN), (onnx.TensorProto.FLOAT16, ["Sigmoid"])],
)
def test_what_is_narrow_stays_and_dtypes_are_inferred(
    dtype: int, first: list[str], typed: bool
) -> None:
    made = model(
        [
            helper.make_node("Sigmoid", ["x"], ["s"], "n"),
            helper.make_node("Identity", ["s"], ["y"], "m"),
        ],
        dtype,
        typed,
    )
    assert operators(made) == [*first, "Identity"]


def test_two_ways_to_one_sigmoid() -> None:
    made = model(
        [
            helper.make_node("Sigmoid", ["x"], ["s"], "n"),
            helper.make_node("Mul", ["s", "s"], ["y"], "m"),
        ]
    )
    assert operators(made) == [*WRITTEN, "Mul"]


def test_a_loop_reads_what_is_computed_outside_of_it() -> None:
    value = helper.make_tensor_value_info
    boolean = onnx.TensorProto.BOOL
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["goes_on"]),
            helper.make_node("Add", ["before", "s"], ["after"]),
        ],
        "body",
        [
            value("i", onnx.TensorProto.INT64, []),
            value("on", boolean, []),
            value("before", 1, None),
        ],
        [value("goes_on", boolean, []), value("after", 1, None)],
    )
    made = model(
        [
            helper.make_node("Sigmoid", ["x"], ["s"], "n"),
            helper.make_node("Loop", ["", "", "x"], ["y"], "loop", body=body),
        ]
    )
    assert operators(made) == [*WRITTEN, "Loop"]
