"""What of an ONNX file is read without the onnx package: its fields' numbers, and walks over them.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .protobuf import Data, parts

MODEL_GRAPH, MODEL_TRAINING_INFO, MODEL_FUNCTIONS = 7, 20, 25
TRAINING_INITIALIZATION, TRAINING_ALGORITHM = 1, 2
FUNCTION_NAME, FUNCTION_NODE, FUNCTION_DOMAIN = 1, 7, 10
FUNCTION_ATTRIBUTE_PROTO, FUNCTION_OVERLOAD = 11, 13
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, GRAPH_SPARSE_INITIALIZER = 1, 5, 11, 15
NODE_INPUT, NODE_OUTPUT, NODE_NAME, NODE_OP_TYPE = 1, 2, 3, 4
NODE_ATTRIBUTE, NODE_DOMAIN, NODE_OVERLOAD = 5, 7, 8
ATTRIBUTE_T, ATTRIBUTE_G, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
ATTRIBUTE_SPARSE_TENSOR, ATTRIBUTE_SPARSE_TENSORS = 22, 23
VALUEINFO_NAME = 1
SPARSE_VALUES, SPARSE_INDICES = 1, 2
TENSOR_DIMS, TENSOR_DATA_TYPE, TENSOR_NAME = 1, 2, 8
TENSOR_FLOAT_DATA, TENSOR_RAW_DATA, TENSOR_DOUBLE_DATA = 4, 9, 10
TENSOR_INT32_DATA, TENSOR_INT64_DATA, TENSOR_UINT64_DATA = 5, 7, 11
TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 13, 14
ENTRY_KEY, ENTRY_VALUE = 1, 2

HOLDS: Final = {  # message -> field number -> message in it; what leads to no tensor is left out
    "ModelProto": {
        MODEL_GRAPH: "GraphProto",
        MODEL_TRAINING_INFO: "TrainingInfoProto",
        MODEL_FUNCTIONS: "FunctionProto",
    },
    "TrainingInfoProto": {TRAINING_INITIALIZATION: "GraphProto", TRAINING_ALGORITHM: "GraphProto"},
    "FunctionProto": {FUNCTION_NODE: "NodeProto", FUNCTION_ATTRIBUTE_PROTO: "AttributeProto"},
    "GraphProto": {
        GRAPH_NODE: "NodeProto",
        GRAPH_INITIALIZER: "TensorProto",
        GRAPH_SPARSE_INITIALIZER: "SparseTensorProto",
    },
    "NodeProto": {NODE_ATTRIBUTE: "AttributeProto"},
    "AttributeProto": {
        ATTRIBUTE_T: "TensorProto",
        ATTRIBUTE_G: "GraphProto",
        ATTRIBUTE_TENSORS: "TensorProto",
        ATTRIBUTE_GRAPHS: "GraphProto",
        ATTRIBUTE_SPARSE_TENSOR: "SparseTensorProto",
        ATTRIBUTE_SPARSE_TENSORS: "SparseTensorProto",
    },
    "SparseTensorProto": {SPARSE_VALUES: "TensorProto", SPARSE_INDICES: "TensorProto"},
    "TensorProto": {TENSOR_EXTERNAL_DATA: "StringStringEntryProto"},
}


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
