"""What TensorRT changes without a word, found in the model."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgeport.deploy.tensorrt.doubts import narrowed, warned
from edgeport.runtimes.tensorrt.order import Built


def saved(folder: Path, *nodes: onnx.NodeProto, weights: tuple[onnx.TensorProto, ...] = ()) -> Path:
    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [2])], [value("y", TensorProto.FLOAT, [2])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", *ends, weights)), folder / "m.onnx")
    return folder / "m.onnx"


@pytest.mark.parametrize("where", ["cast", "weight", "constant", "in an If"])
def test_float64_inside_is_told(tmp_path: Path, where: str) -> None:
    double = helper.make_tensor("w", TensorProto.DOUBLE, [2], [1.0, 2.0])
    cast = helper.make_node("Cast", ["x"], ["d"], to=TensorProto.DOUBLE)
    body = helper.make_graph([cast], "b", [], [])
    nodes = {
        "cast": cast,
        "weight": helper.make_node("Relu", ["x"], ["y"]),
        "constant": helper.make_node("Constant", [], ["c"], value=double),
        "in an If": helper.make_node("If", ["x"], [], then_branch=body, else_branch=body),
    }
    path = saved(tmp_path, nodes[where], weights=(double,) if where == "weight" else ())
    (told,) = narrowed("tensorrt-rtx", path)
    assert "computes in float64 inside, and TensorRT has none" in told


def test_float32_is_no_news(tmp_path: Path) -> None:
    cast = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    assert narrowed("tensorrt-rtx", saved(tmp_path, cast)) == []


def test_int64_that_stays_is_no_news() -> None:
    said = ("Make sure input i has Int64 binding.", "it is so")
    assert warned("tensorrt-rtx", Built("1", warnings=said)) == ["tensorrt-rtx: it is so"]
