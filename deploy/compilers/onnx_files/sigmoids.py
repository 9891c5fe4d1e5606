"""Sigmoids whose values leave the graph, and those of steps, written out as 1 / (1 + exp(-x)).

ONNX Runtime's own on the CPU is exact to 6e-8 and not to so many digits: of -10 it has four digits
right, of -17 none, and from -18 on it answers 0. The probabilities of a rare class are of that
size, and their logarithm may be asked for. Written out it has all digits, and costs 1.5 times as
much. Inside of a network, in front of weights, that error is lost in their sums. A gate that is
closed in each step of an LSTM is no sum, and what comes out is of the size of that error.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .onnx_messages import described, dtypes_of, graphs, rewrite, stand_for

_WEIGHTED: Final = frozenset({
    "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "Einsum", "GRU", "Gemm", "LSTM", "MatMul",
    "MatMulInteger", "QLinearConv", "QLinearMatMul", "RNN",
})  # fmt: skip
"""Operators that add up what goes in."""

_DTYPES: Final[Mapping[int, type]] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.DOUBLE: np.float64,
}
"""In float16 the exponential ends at 11."""


def write_out_sigmoids(model: onnx.ModelProto) -> None:
    """Replace each Sigmoid from which an output is reached without weights in between."""
    _write_out(model, model.graph, _reached(model.graph))


def write_out_inner_sigmoids(model: onnx.ModelProto) -> None:
    """Replace each Sigmoid within a loop or a branch."""
    *inner, _ = graphs(model)
    for graph in inner:
        _write_out(model, graph, graph.node)


def _write_out(
    model: onnx.ModelProto, graph: onnx.GraphProto, among: Iterable[onnx.NodeProto]
) -> None:
    found = {node.output[0] for node in among if node.op_type == "Sigmoid"}
    if not found:
        return
    dtypes = dtypes_of(described(model, found))

    def written(node: onnx.NodeProto) -> Sequence[onnx.NodeProto]:
        dtype = _DTYPES.get(dtypes.get(node.output[0], 0)) if node.output else None
        if dtype is None or node.output[0] not in found:
            return (node,)
        one = numpy_helper.from_array(np.array(1, dtype), f"{node.output[0]}_one")
        graph.initializer.append(one)
        return _written_out(node, one.name)

    rewrite(graph, written)


def _reached(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes that outputs are made by, back to those with weights."""
    makers = {name: node for node in graph.node for name in node.output}
    waiting = [value.name for value in graph.output]
    while waiting:
        node = makers.pop(waiting.pop(), None)
        if node is not None and node.op_type not in _WEIGHTED:
            waiting += node.input
            for inside in _bodies(node):
                waiting += (name for reached in _reached(inside) for name in reached.input)
            yield node


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Of a loop or a branch, which may read whatever is computed outside of it."""
    return (each.g for each in node.attribute if each.type == onnx.AttributeProto.GRAPH)


def _written_out(node: onnx.NodeProto, one: str) -> Sequence[onnx.NodeProto]:
    """The last one keeps name, notes and output: it is what the map of nodes and the proof know."""
    (value,) = node.input
    (output,) = node.output
    last = helper.make_node("Reciprocal", [f"{output}_sum"], [output])
    stand_for(last, node)
    return (
        helper.make_node("Neg", [value], [f"{output}_negative"], f"{node.name}_negative"),
        helper.make_node("Exp", [f"{output}_negative"], [f"{output}_power"], f"{node.name}_power"),
        helper.make_node("Add", [f"{output}_power", one], [f"{output}_sum"], f"{node.name}_sum"),
        last,
    )
