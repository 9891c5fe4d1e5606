from typing import Any

import onnx

from edgeport.runtimes.formats import onnx_fields

MESSAGES: dict[str, Any] = {
    "MODEL": onnx.ModelProto,
    "TRAINING": onnx.TrainingInfoProto,
    "GRAPH": onnx.GraphProto,
    "FUNCTION": onnx.FunctionProto,
    "NODE": onnx.NodeProto,
    "ATTRIBUTE": onnx.AttributeProto,
    "VALUEINFO": onnx.ValueInfoProto,
    "SPARSE": onnx.SparseTensorProto,
    "TENSOR": onnx.TensorProto,
    "ENTRY": onnx.StringStringEntryProto,
}


def test_every_number_is_that_of_the_format() -> None:
    numbers = {name: value for name, value in vars(onnx_fields).items() if isinstance(value, int)}
    assert numbers == {
        name: MESSAGES[message].DESCRIPTOR.fields_by_name[field.lower()].number
        for name in numbers
        for message, _, field in [name.partition("_")]
    }


def test_the_table_leads_to_every_tensor_of_the_format() -> None:
    holds: dict[str, dict[int, str]] = {}
    waiting = [onnx.ModelProto.DESCRIPTOR]
    while waiting:
        message = waiting.pop()
        if message.name not in holds:
            inner = {f.number: f.message_type for f in message.fields if f.message_type}
            holds[message.name] = {number: each.name for number, each in inner.items()}
            waiting += inner.values()
    leading = {"TensorProto"}
    for _ in holds:
        leading |= {name for name, inner in holds.items() if leading & {*inner.values()}}
    expected = {
        name: {number: each for number, each in holds[name].items() if each in leading}
        for name in leading
    }
    expected["TensorProto"] = {13: "StringStringEntryProto"}
    assert expected == onnx_fields.HOLDS
