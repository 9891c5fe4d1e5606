"""Axes of reductions counted from the first one.

Of a tensor without elements ONNX Runtime reduces no axis that is counted from the last (1.31.1):
the sum of (0, 4) along -1 is (0, 4), and so are the places of its maxima. A mask may choose no row.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from .onnx_messages import constants_by_name, described, graphs, ranks_of


def count_from_first(model: onnx.ModelProto) -> None:
    """Rewrite axes that are known, of values whose axes are; in branches and loops too."""
    found = [node for graph in graphs(model) for node in graph.node if _is_reduction(node)]
    if not found:
        return
    ranks = ranks_of(described(model, (node.input[0] for node in found)))
    constants = constants_by_name(model)
    for graph in graphs(model):
        for node in filter(_is_reduction, graph.node):
            rank = ranks.get(node.input[0])
            if rank:  # a number has no axes
                _rewrite(graph, node, rank, constants)


def _is_reduction(node: onnx.NodeProto) -> bool:
    return not node.domain and node.op_type.startswith(("Reduce", "ArgMax", "ArgMin"))


def _rewrite(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    rank: int,
    constants: Mapping[str, onnx.TensorProto | None],
) -> None:
    for attribute in node.attribute:
        if attribute.name == "axes":
            attribute.ints[:] = [axis % rank for axis in attribute.ints]
        elif attribute.name == "axis" and attribute.i < 0:
            attribute.i += rank
    tensor = constants.get(node.input[1]) if len(node.input) > 1 else None
    if tensor is None:
        return
    axes = numpy_helper.to_array(tensor)
    if (axes < 0).any():
        node.input[1] = f"{node.output[0]}/axes_from_first"
        counted = np.where(axes < 0, axes + rank, axes)
        graph.initializer.append(numpy_helper.from_array(counted, node.input[1]))
