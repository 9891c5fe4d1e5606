"""What of an ONNX file is read without the onnx package: its fields' numbers, and walks over them.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .protobuf import Data, parts

MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT = 1, 5, 11
FUNCTION_NAME, FUNCTION_NODE, FUNCTION_DOMAIN, FUNCTION_OVERLOAD = 1, 7, 10, 13
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE = 1, 2, 3, 4
NODE_ATTRIBUTE, NODE_DOMAIN, NODE_OVERLOAD = 5, 7, 8
ATTRIBUTE_G, ATTRIBUTE_GRAPHS = 6, 11
VALUEINFO_NAME = 1
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_NAME = 1, 2, 8
TENSOR_FLOAT_DATA, TENSOR_RAW_DATA, TENSOR_DOUBLE_DATA = 4, 9, 10
TENSOR_INT32_DATA, TENSOR_INT64_DATA, TENSOR_UINT64_DATA = 5, 7, 11
TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 13, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2

HOLDS: Final = {  # message -> field number -> message in it; what leads to no tensor is left out
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto", 6: "GraphProto", 10: "TensorProto", 11: "GraphProto",
        22: "SparseTensorProto", 23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {13: "StringStringEntryProto"},  # external_data
}  # fmt: skip  # one line a message


def each(data: Data, start: int, end: int, *numbers: int) -> Iterator[tuple[int, int]]:
    """Start and end of the fields of a message that have one of these numbers, and a length."""
    return ((first, last) for number, first, last in parts(data, start, end) if number in numbers)


def bodies(data: Data, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Start and end of the graphs inside a node: a loop and a branch have them."""
    for place in each(data, start, end, NODE_ATTRIBUTE):
        yield from each(data, *place, ATTRIBUTE_G, ATTRIBUTE_GRAPHS)


def entry(data: Data, start: int, end: int) -> tuple[str, str]:
    """Key and value of an entry, such as one that says where external data lie."""
    found = {number: text(data, *place) for number, *place in parts(data, start, end)}
    return found.get(ENTRY_KEY, ""), found.get(ENTRY_VALUE, "")


def text(data: Data, start: int, end: int) -> str:
    """A string, whatever its bytes are."""
    return data[start:end].decode("utf-8", "replace")
