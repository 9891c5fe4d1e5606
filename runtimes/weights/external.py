"""Which files beside it an ONNX file reads its tensors from, told without the onnx package.

A weight that no hash covers can be changed by anybody, so a bundle lists every such file. What an
ONNX file names is read from its protobuf encoding: lengths are followed, weights are jumped over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edgeport.runtimes.formats.protobuf import Data, parts

_HOLDS: Final = {  # message -> field number -> message in it; what leads to no tensor is left out
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

_KEY: Final = b"location"
"""Of the entry that names the file. A node without these bytes, as most are, is not looked into."""


def locations(data: Data) -> Iterator[str]:
    """The files that an ONNX model names, each as often as it does, relative to its folder.

    Of data that is not ONNX, whatever was found before that showed: the engine refuses it.
    """
    waiting = [("ModelProto", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        found = parts(data, start, end)
        if message == "StringStringEntryProto":
            entry = {number: data[first:last] for number, first, last in found}
            if entry.get(1) == _KEY:
                yield entry.get(2, b"").decode(errors="replace")
        else:
            holds = _HOLDS[message]
            waiting += [
                (holds[number], first, last)
                for number, first, last in found
                if number in holds
                and (holds[number] != "NodeProto" or data.find(_KEY, first, last) >= 0)
            ]
