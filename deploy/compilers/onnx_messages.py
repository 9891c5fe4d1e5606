"""Everything in an ONNX model, whatever it is nested in."""

from collections.abc import Iterator
from typing import Any


def messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages in it; subgraphs, functions and types included."""
    yield message
    if message.DESCRIPTOR.name == "TensorProto":  # listing its fields would copy the weights
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in (value,) if hasattr(value, "DESCRIPTOR") else value:
                yield from messages(part)
