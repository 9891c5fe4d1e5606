"""Everything in an ONNX model, whatever it is nested in, and what to call its nodes."""

from collections.abc import Iterator
from typing import Any, Final

import onnx

DTYPE_ATTRIBUTES: Final = ("to", "dtype")
"""Those of nodes that name the dtype of what they make."""


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


def label(node: onnx.NodeProto) -> tuple[str, str]:
    """The name of a node, or of its first output; its operator, with any domain but ONNX's own."""
    name = node.name or next(iter(node.output), "")
    return name, f"{node.domain}.{node.op_type}" if node.domain else node.op_type
