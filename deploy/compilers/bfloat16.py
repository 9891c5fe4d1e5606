"""bfloat16 in a graph: put in for TensorRT, taken out for ONNX Runtime, which lacks it on the CPU.

float32 holds all values of bfloat16, so what is widened is at least as near to the truth. What an
engine does in bfloat16 is seen in float32 too, where each value is rounded as the engine does it.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import DTypeLike
from onnx import TensorProto, helper, numpy_helper

from edgeport.runtimes import ContractError

from .onnx_messages import DTYPE_ATTRIBUTES, messages, uses

_DTYPES: Final[Mapping[int, DTypeLike]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
}


def widen_bfloat16(model: onnx.ModelProto) -> bool:
    """Replace bfloat16 everywhere in a model by float32; return whether there was any."""
    return _replace(model, TensorProto.BFLOAT16, TensorProto.FLOAT)


def put_in_bfloat16(half: onnx.ModelProto, wide: onnx.ModelProto) -> None:
    """Replace float16 everywhere in a model by bfloat16.

    Args:
        half: In float16; changed.
        wide: It in float32, with all values that float16 may not hold.

    Raises:
        ContractError: It computes in float16 in places, and so would no more.
    """
    if uses(wide, TensorProto.FLOAT16):
        raise ContractError(
            "the module computes in float16 in places, for which bfloat16 cannot stand",
            remedy="leave .half() and autocast out of forward, or leave --precision out",
        )
    values = dict(_tensors(wide, TensorProto.FLOAT))
    for name, tensor in _tensors(half, TensorProto.FLOAT16):
        if name in values:
            _cast(tensor, values[name], TensorProto.BFLOAT16)
    _replace(half, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def round_as_bfloat16(model: onnx.ModelProto) -> None:
    """Let a model in bfloat16 compute in float32, with each value rounded to bfloat16.

    A product is so summed in float32 and rounded once, as on a tensor core (NVIDIA, "NVIDIA A100
    Tensor Core GPU Architecture", 2020).
    """
    graphs = [*_graphs(model)][::-1]  # inner ones first: extending copies them
    narrow = [_in_bfloat16(graph) for graph in graphs]
    widen_bfloat16(model)
    for graph, names in zip(graphs, narrow, strict=True):
        nodes = [each for node in graph.node for each in _rounded(node, names)]
        del graph.node[:]
        graph.node.extend(nodes)


def _in_bfloat16(graph: onnx.GraphProto) -> frozenset[str]:
    return frozenset(
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16
    )


def _rounded(node: onnx.NodeProto, names: frozenset[str]) -> Iterator[onnx.NodeProto]:
    held = [name for name in node.output if name in names]
    left = [f"{name}/exact" if name in names else name for name in node.output]
    del node.output[:]
    node.output.extend(left)
    yield node
    for name in held:
        cut = f"{name}/cut"
        yield helper.make_node("Cast", [f"{name}/exact"], [cut], to=TensorProto.BFLOAT16)
        yield helper.make_node("Cast", [cut], [name], to=TensorProto.FLOAT)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    return (each for each in messages(model) if each.DESCRIPTOR.name == "GraphProto")


def _tensors(model: onnx.ModelProto, dtype: int) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Values of a dtype, by their name in the graph: a node's by that of its output."""
    for graph in _graphs(model):
        named = [(tensor.name, tensor) for tensor in graph.initializer]
        named += [
            (node.output[0], attribute.t)
            for node in graph.node
            for attribute in node.attribute
            if attribute.type == onnx.AttributeProto.TENSOR
        ]
        yield from ((name, tensor) for name, tensor in named if tensor.data_type == dtype)


def _replace(model: onnx.ModelProto, old: int, new: int) -> bool:
    """Put a dtype in the place of another; return whether that was anywhere."""
    found = False
    for message in list(messages(model)):
        match message.DESCRIPTOR.name:
            case "TensorProto" if message.data_type == old:
                _cast(message, message, new)
            case "Tensor" if message.elem_type == old:  # TypeProto.Tensor
                message.elem_type = new
            case "AttributeProto" if message.name in DTYPE_ATTRIBUTES and message.i == old:
                message.i = new
            case _:
                continue
        found = True
    return found


def _cast(tensor: onnx.TensorProto, values: onnx.TensorProto, dtype: int) -> None:
    """Put values in the place of a tensor's, in another dtype."""
    with np.errstate(over="ignore"):  # what is beyond the largest is Inf, as in an engine
        cast = numpy_helper.to_array(values).astype(_DTYPES[dtype])
    tensor.CopyFrom(numpy_helper.from_array(cast, tensor.name))
