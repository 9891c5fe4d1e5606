"""The version of ONNX's file format: no newer than what a model really uses."""

from collections.abc import Iterator
from typing import Final

import onnx

from edgeport.deploy.compilers.targets import OnnxRequest
from edgeport.runtimes import ContractError

from .onnx_messages import DTYPE_ATTRIBUTES, messages

# From the history of versions in ONNX's onnx.proto.
_IR_OF_FIELD: Final = {
    "ModelProto.functions": 8,
    "TypeProto.optional_type": 8,
    "TypeProto.sparse_tensor_type": 8,
    "FunctionProto.attribute_proto": 9,
    "FunctionProto.overload": 10,
    "FunctionProto.value_info": 10,
    "NodeProto.overload": 10,
    "ModelProto.configuration": 11,
    "NodeProto.device_configurations": 11,
}
_IR_SINCE_DTYPE: Final = ((27, 14), (25, 13), (24, 12), (23, 11), (21, 10), (17, 9))
"""float6, int2, float8e8m0, float4, int4, the other float8: by TensorProto.DataType."""

_DTYPE_FIELDS: Final = ("data_type", "elem_type", "key_type")


def stamp(model: onnx.ModelProto, request: OnnxRequest) -> None:
    """Write the IR version that was asked for, if the model uses nothing that came later.

    An IR version says which fields and element types of the format a reader must know; opsets
    are versioned apart. So it may be lowered to the newest that is really used.

    Raises:
        ContractError: The model uses something newer.
    """
    needed, feature = max(_features(model), default=(0, ""))
    if needed > request.ir_version:
        raise ContractError(
            f"the model uses {feature}, which came with ONNX IR version {needed}, "
            f"asked for version {request.ir_version}",
            remedy=f"export a module without {feature}, or a newer --opset or --target",
        )
    model.ir_version = request.ir_version


def _features(model: onnx.ModelProto) -> Iterator[tuple[int, str]]:
    """What a model needs beyond IR version 7: the version, and what needs it."""
    for message in messages(model):
        kind = message.DESCRIPTOR.name
        if kind != "ModelProto" and getattr(message, "metadata_props", None):
            yield 10, f"metadata of a {kind}"
        if kind == "TensorProto":  # listing its fields would copy the weights
            yield from _dtype(message.data_type)
            continue
        if kind == "AttributeProto" and message.name in DTYPE_ATTRIBUTES:
            yield from _dtype(message.i)
        for field, value in message.ListFields():
            if since := _IR_OF_FIELD.get(f"{kind}.{field.name}"):
                yield since, f"{field.name} of a {kind}"
            if field.name in _DTYPE_FIELDS and field.message_type is None:  # a sequence holds types
                yield from _dtype(value)


def _dtype(number: int) -> Iterator[tuple[int, str]]:
    for first, ir_version in _IR_SINCE_DTYPE:
        if number >= first:
            yield ir_version, onnx.TensorProto.DataType.Name(number).lower()
            return
