"""Which files beside it an ONNX file reads its tensors from, told without the onnx package.

A weight that no hash covers can be changed by anybody, so a bundle lists every such file. What an
ONNX file names is read from its protobuf encoding: lengths are followed, weights are jumped over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edgeport.runtimes.formats import onnx_fields as fields
from edgeport.runtimes.formats.protobuf import Data, parts

_KEY: Final = b"location"
"""Of the entry that names the file. A node without these bytes, as most are, is not looked into."""


def locations(data: Data) -> Iterator[str]:
    """The files that an ONNX model names, each as often as it does, relative to its folder.

    Of data that is not ONNX, whatever was found before that showed: the engine refuses it.
    """
    waiting = [("ModelProto", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        if message == "StringStringEntryProto":
            key, value = fields.entry(data, start, end)
            if key.encode() == _KEY:
                yield value
        else:
            holds = fields.HOLDS[message]
            waiting += [
                (holds[number], first, last)
                for number, first, last in parts(data, start, end)
                if number in holds
                and (holds[number] != "NodeProto" or data.find(_KEY, first, last) >= 0)
            ]
