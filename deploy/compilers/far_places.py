"""Places far outside of an image, kept near it, and those that are none, in ``GridSample``.

ONNX Runtime makes a whole number of a place: what is beyond those of 64 bits, or NaN, falls on the
image again, and what is beyond the border, on the wrong side of it (1.31.1). torch gives 0, or the
border's value, and NaN where a place is none and values are mixed. A projection divides by a depth
that may be almost 0. In parts of half an image, all places from 16 on are outside of every image.
In a volume, of three axes, torch takes what is no place for one at the far end, and is NaN nowhere.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .onnx_messages import described, dtypes_of, graphs

_OPERATOR: Final = "GridSample"
_CUBIC: Final = (b"cubic", b"bicubic")
_FAR: Final = 16.0
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
    dtypes, volumes = dtypes_of(known), _volumes(known)
    for graph in graphs(model):
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            is_one = node.op_type == _OPERATOR
            dtype = _DTYPES.get(dtypes.get(node.input[1], 0)) if is_one else None
            nodes += [node] if dtype is None else _written_out(graph, node, dtype, volumes)
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _volumes(model: onnx.ModelProto) -> set[str]:
    """Values of five axes."""
    values = (
        value
        for graph in graphs(model)
        for value in (*graph.value_info, *graph.input, *graph.output)
    )
    return {value.name for value in values if len(value.type.tensor_type.shape.dim) == 5}


def _written_out(
    graph: onnx.GraphProto, node: onnx.NodeProto, dtype: Any, volumes: set[str]
) -> list[onnx.NodeProto]:
    """The last one keeps name, notes and output."""
    options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    mode, padding = options.get("mode", b"linear"), options.get("padding_mode", b"zeros")
    places = node.input[1]
    is_volume = places in volumes
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
        last.name, last.doc_string = node.name, node.doc_string
        last.metadata_props.extend(node.metadata_props)
        node.output[0] = node.name = f"{node.output[0]}/sampled"
        return [*made, node, last]
    return [*made, node]
