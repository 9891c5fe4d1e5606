"""Loops of a graph that go on until floats say that it is enough: rounded ones may never say so."""

from collections.abc import Iterator
from typing import Final

import onnx

from edgeport.deploy.compilers.onnx_files.onnx_messages import of_kind

_FLOATS: Final = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
_OF_SHAPES: Final = ("Shape", "Size")


def while_loops(graph: onnx.GraphProto) -> list[str]:
    """The names of these loops."""
    loops = (node for node in of_kind("NodeProto", graph) if node.op_type == "Loop")
    return [node.name or node.output[0] for node in loops if _asks_floats(node)]


def _asks_floats(loop: onnx.NodeProto) -> bool:
    """Whether floats that the loop carries decide if it goes on."""
    (body,) = (attribute.g for attribute in loop.attribute if attribute.name == "body")
    floats = {v.name for v in body.input if v.type.tensor_type.elem_type in _FLOATS}
    return any(name in floats for name in _asked(body, body.output[0].name))


def _asked(body: onnx.GraphProto, name: str) -> Iterator[str]:
    """A value, and all that it is computed from in its graph."""
    makers = {output: node for node in body.node for output in node.output}
    left, seen = [name], {name}
    while left:
        yield (name := left.pop())
        maker = makers.get(name)
        if maker is not None and maker.op_type not in _OF_SHAPES:
            left += {*maker.input} - seen
            seen.update(maker.input)
