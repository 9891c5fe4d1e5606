"""Reductions of tensors without elements, beside torch's."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeport.deploy.compilers.onnx_files.reduced_axes import count_from_first


def reduction(
    operator: str, keepdims: int, opset: int, *, is_node: bool = False
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    inputs = ["x", "axes"][: 1 + (opset >= 18)]
    given: dict[str, Any] = {} if opset >= 18 else {"axes": [0, -1]}
    nodes = [helper.make_node(operator, inputs, ["y"], "node", keepdims=keepdims, **given)]
    axes = numpy_helper.from_array(np.array([0, -1]), "axes")
    if is_node:
        nodes.insert(0, helper.make_node("Constant", [], ["axes"], value=axes))
    sizes: list[str | int | None] = [1, "b", 1] if keepdims else ["b"]
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["a", "b", 4])],
        [value("y", TensorProto.FLOAT, sizes)],
        [] if is_node else [axes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def shape(model: onnx.ModelProto, given: tuple[int, ...]) -> tuple[int, ...]:
    session: Any = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"x": np.zeros(given, np.float32)})
    return np.asarray(found).shape


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"])
@pytest.mark.parametrize(("opset", "is_node"), [(20, False), (20, True), (13, False)])
def test_no_axis_is_left(operator: str, keepdims: int, opset: int, is_node: bool) -> None:
    model = reduction(operator, keepdims, opset, is_node=is_node)
    count_from_first(model)
    onnx.checker.check_model(model, full_check=True)
    assert shape(model, (2, 0, 4)) == ((1, 0, 1) if keepdims else (0,))
    assert shape(model, (2, 3, 4)) == ((1, 3, 1) if keepdims else (3,))


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
def test_places_have_no_axis_left(operator: str) -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node(operator, ["x"], ["y"], axis=-1, keepdims=0)
    graph = helper.make_graph(
        [node], "g", [value("x", 1, ["a", 4])], [value("y", TensorProto.INT64, ["a"])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    count_from_first(model)
    assert shape(model, (0, 4)) == (0,)


def test_a_number_has_no_axes_to_count() -> None:
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[-1], keepdims=0)
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "g", [value("x", 1, [])], [value("y", 1, [])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10)
    count_from_first(model)
    assert model.graph.node[0].attribute[0].ints == [-1]
