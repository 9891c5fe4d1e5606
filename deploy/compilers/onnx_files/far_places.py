"""Places far outside of an image, kept near it, and those that are none, in ``GridSample``.

ONNX Runtime makes a whole number of a place: what is beyond those of 64 bits, or NaN, falls on the
image again, and what is beyond the border, on the wrong side of it (1.31.1). torch gives 0, or the
border's value, and NaN where a place is none and values are mixed. A projection divides by a depth
that may be almost 0. In parts of half an image, all places from 16 on are outside of every image.
In a volume, of three axes, torch takes what is no place for one at the far end, and is NaN nowhere.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .onnx_messages import attributes_of, described, dtypes_of, graphs, ranks_of, rewrite, stand_for

_OPERATOR: Final = "GridSample"
_CUBIC: Final = (b"cubic", b"bicubic")
_FAR: Final = 16.0
_VOLUME: Final = 5
"""Axes of the places in a volume."""
_DTYPES: Final[Mapping[int, Any]] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.DOUBLE: np.float64,
}


def write_out_far_places(model: onnx.ModelProto) -> None:
    """Bound what each GridSample is asked for, in the bodies of branches and loops too."""
    asked = [
        node.input[1] for graph in graphs(model) for node in graph.node if node.op_type == _OPERATOR
    ]
    if not asked:
        return
    known = described(model, asked)
    dtypes, ranks = dtypes_of(known), ranks_of(known)
    for graph in graphs(model):
        rewrite(graph, partial(_bounded, graph, dtypes, ranks))


def _bounded(
    graph: onnx.GraphProto,
    dtypes: Mapping[str, int],
    ranks: Mapping[str, int | None],
    node: onnx.NodeProto,
) -> list[onnx.NodeProto]:
    places = node.input[1] if node.op_type == _OPERATOR else ""
    dtype = _DTYPES.get(dtypes.get(places, 0))
    is_volume = ranks.get(places) == _VOLUME
    return [node] if dtype is None else _written_out(graph, node, dtype, is_volume)


def _written_out(
    graph: onnx.GraphProto, node: onnx.NodeProto, dtype: Any, is_volume: bool
) -> list[onnx.NodeProto]:
    """The last one keeps name, notes and output."""
    options = attributes_of(node)
    mode, padding = options.get("mode", b"linear"), options.get("padding_mode", b"zeros")
    places = node.input[1]
    made: list[onnx.NodeProto] = []

    def constant(name: str, value: Any) -> str:
        named = f"{node.output[0]}/{name}"
        graph.initializer.append(numpy_helper.from_array(value, named))
        return named

    def add(operator: str, *inputs: str, **options: Any) -> str:
        name = f"{node.output[0]}/{len(made)}"
        made.append(helper.make_node(operator, inputs, [name], name, **options))
        return name

    if padding != b"reflection":
        ends = (constant(f"{side:g}", np.array(side, dtype)) for side in (-_FAR, _FAR))
        node.input[1] = add("Clip", places, *ends)
        if is_volume or (mode == b"nearest" and padding == b"zeros"):
            outside = constant("outside", np.array(_FAR, dtype))
            node.input[1] = add("Where", add("IsNaN", places), outside, node.input[1])
    if mode in _CUBIC or (mode != b"nearest" and padding == b"zeros" and not is_volume):
        nothing = add("Sub", places, places)  # NaN where a place is NaN or infinite
        of_each = add("ReduceSum", nothing, constant("last", np.array([-1])), keepdims=0)
        mask = add("Unsqueeze", of_each, constant("channels", np.array([1])))
        last = helper.make_node("Add", [f"{node.output[0]}/sampled", mask], [node.output[0]])
        stand_for(last, node)
        node.output[0] = node.name = f"{node.output[0]}/sampled"
        return [*made, node, last]
    return [*made, node]
