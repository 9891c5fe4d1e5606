"""Everything in an ONNX model, whatever it is nested in, and what to call its nodes."""

from collections.abc import Iterator
from typing import Any

import onnx


def messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages in it; subgraphs, functions and types included."""
    yield message
    if message.DESCRIPTOR.name == "TensorProto":  # listing its fields would copy the weights
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "DESCRIPTOR") else value:
                yield from messages(part)


def label(node: onnx.NodeProto) -> tuple[str, str]:
    """The name of a node, or of its first output; its operator, with any domain but ONNX's own."""
    name = node.name or next(iter(node.output), "")
    return name, f"{node.domain}.{node.op_type}" if node.domain else node.op_type
