"""Everything in an ONNX model, whatever it is nested in, and what to call its nodes."""

import math
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any, Final

import onnx
from onnx import NodeProto, helper

DTYPE_ATTRIBUTES: Final = ("to", "dtype", "output_dtype")
"""Those of nodes that name the dtype of what they make."""

_OF_A_SHAPE: Final = 64
"""So many values may be a shape that is asked for, and not weights."""


def messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages in it; subgraphs, functions and types included."""
    yield message
    if message.DESCRIPTOR.name == "TensorProto":  # listing its fields would copy the weights
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "DESCRIPTOR") else value:
                yield from messages(part)


def graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """All graphs of a model, inner ones first: to give a graph its nodes anew copies them."""
    return [*of_kind("GraphProto", model)][::-1]


def rewrite(graph: onnx.GraphProto, write: Callable[[NodeProto], Iterable[NodeProto]]) -> None:
    """Put nodes in the place of each node of a graph: those that a function makes of it."""
    nodes = [made for node in graph.node for made in write(node)]
    del graph.node[:]
    graph.node.extend(nodes)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    """The values of a node's attributes, by name."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def stand_for(made: NodeProto, node: NodeProto) -> None:
    """Give a node the name and the notes of the one whose output it makes now."""
    made.name, made.doc_string = node.name, node.doc_string
    made.metadata_props.extend(node.metadata_props)


def described(model: onnx.ModelProto, asked: Iterable[str]) -> onnx.ModelProto:
    """A model that says of its values what they are.

    Args:
        model: As an exporter wrote it. The older one writes down few dtypes or none.
        asked: If it says nothing of one of these values, all are inferred.
    """
    known = dtypes_of(model)
    if all(known.get(name) for name in asked):
        return model
    return inferred(model)


def inferred(model: onnx.ModelProto, *, sizes: bool = False) -> onnx.ModelProto:
    """A model that says of its values what can be known of them.

    Args:
        model: As an exporter wrote it.
        sizes: Follow those that are computed, too.
    """
    return onnx.shape_inference.infer_shapes(_without_weights(model), data_prop=sizes)


def dtypes_of(model: onnx.ModelProto) -> dict[str, int]:
    """Of values by name, where bodies that share a name agree."""
    found: dict[str, int] = {}
    for graph in graphs(model):
        named = [(each.name, each.data_type) for each in graph.initializer]
        for value in (*graph.value_info, *graph.output, *graph.input):
            named.append((value.name, value.type.tensor_type.elem_type))
        for name, dtype in filter(itemgetter(1), named):
            found[name] = dtype if found.get(name, dtype) == dtype else 0
    return found


def ranks_of(model: onnx.ModelProto) -> dict[str, int | None]:
    """How many axes values have, by name; none where bodies that share a name differ."""
    found: dict[str, int | None] = {}
    for graph in graphs(model):
        for value in (*graph.value_info, *graph.input, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                rank = len(value.type.tensor_type.shape.dim)
                found[value.name] = rank if found.get(value.name, rank) == rank else None
    return found


def constants_by_name(model: onnx.ModelProto) -> dict[str, onnx.TensorProto | None]:
    """Of weights and constants; none where bodies that share a name differ."""
    found: dict[str, onnx.TensorProto | None] = {}
    for graph in graphs(model):
        named = [(each.name, each) for each in graph.initializer]
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                named.append((node.output[0], node.attribute[0].t))
        for name, tensor in named:
            found[name] = tensor if found.get(name, tensor) == tensor else None
    return found


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same, with inputs in place of weights, which may be more than protobuf copies."""
    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    light.functions.extend(model.functions)
    graph, whole = light.graph, model.graph
    graph.name = whole.name
    graph.node.extend(whole.node)
    graph.output.extend(whole.output)
    graph.value_info.extend(whole.value_info)
    inputs = {each.name: each for each in whole.input}
    for each in whole.initializer:
        if math.prod(each.dims) <= _OF_A_SHAPE:
            graph.initializer.append(each)
        else:
            typed = helper.make_tensor_value_info(each.name, each.data_type, each.dims)
            inputs.setdefault(each.name, typed)
    graph.input.extend(inputs.values())
    return light


def uses(message: Any, dtype: int) -> bool:
    """Whether a tensor, or the type of a value, is of a dtype anywhere in a message."""
    for part in messages(message):
        match part.DESCRIPTOR.name:
            case "TensorProto" if part.data_type == dtype:
                return True
            case "Tensor" if part.elem_type == dtype:  # TypeProto.Tensor
                return True
            case "AttributeProto" if part.name in DTYPE_ATTRIBUTES and part.i == dtype:
                return True
    return False


def of_kind(name: str, message: Any) -> Iterator[Any]:
    """Those of ``messages`` that are of a kind, such as ``NodeProto``."""
    return (each for each in messages(message) if each.DESCRIPTOR.name == name)


def label(node: NodeProto) -> tuple[str, str]:
    """The name of a node, or of its first output; its operator, with any domain but ONNX's own."""
    name = node.name or next(iter(node.output), "")
    return name, f"{node.domain}.{node.op_type}" if node.domain else node.op_type
