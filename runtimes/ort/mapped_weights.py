"""Large weights are shown to ONNX Runtime where they lie, instead of being read through protobuf.

Read from a file, weights are copied into a message and from there to where they are used. Of what
is in memory already, ONNX Runtime takes the second step alone: of ResNet18 it opens in 0.7 of the
time. What is handed over is the model without its large weights, which names their places.
"""

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnxruntime

from edgeport.runtimes.formats.protobuf import header, is_flat, numbers, parts
from edgeport.runtimes.weights.external import locations

_PRIVATE: Final = Path("/proc/self/fd")
"""Where a file is opened that nobody can write to now. Of another, cut off, reading is fatal."""
_LARGE_FILE_BYTES: Final = 2**22
_LARGE_TENSOR_BYTES: Final = 2**16
"""Smaller ones may be shapes, which ONNX Runtime wants to know before it looks elsewhere."""

_GRAPH, _INITIALIZER, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 7, 5, 9, 13, 14
"""Numbers of fields, of ModelProto, GraphProto and three times TensorProto."""
_NAME: Final = "weights"


@contextlib.contextmanager
def opened(path: Path, settings: onnxruntime.SessionOptions) -> Iterator[str | bytes]:
    """What to open a session with, while the block lasts: a path, or a model without weights.

    Args:
        path: Of an ONNX file.
        settings: Of the session; told where the weights are.
    """
    show = getattr(settings, "add_external_initializers_from_files_in_memory", None)
    if show is None or path.parent != _PRIVATE or path.stat().st_size < _LARGE_FILE_BYTES:
        yield str(path)
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        model = None if any(locations(data)) else without_weights(data)
        if model is not None:
            show([_NAME], [data], [len(data)])
        yield str(path) if model is None else model


def without_weights(data: mmap.mmap | bytes) -> bytes | None:
    """A model whose large weights are those at their places in ``data``; ``None`` if it has none.

    Args:
        data: An ONNX model without external data.
    """
    graphs = [(start, end) for number, start, end in parts(data, 0, len(data)) if number == _GRAPH]
    if len(graphs) != 1:
        return None
    (start, end), pieces = graphs[0], []
    begun = _begin(data, _GRAPH, start, end)
    place = start
    for number, first, last in parts(data, start, end):
        if number != _INITIALIZER or last - first < _LARGE_TENSOR_BYTES:
            continue
        before, tensor = _begin(data, number, first, last), _elsewhere(data, first, last)
        if before is not None and tensor is not None:
            pieces += [data[place:before], _field(number, tensor)]
            place = last
    if begun is None or not pieces:
        return None
    return data[:begun] + _field(_GRAPH, b"".join([*pieces, data[place:end]])) + data[end:]


def _elsewhere(data: mmap.mmap | bytes, start: int, end: int) -> bytes | None:
    """A tensor that names where its values are; ``None`` if they are not in one piece."""
    if not is_flat(data, start, end):
        return None  # what is in a group is no field of it
    found = list(parts(data, start, end))
    raw = [(first, last) for number, first, last in found if number == _RAW_DATA]
    is_elsewhere = _DATA_LOCATION in dict(numbers(data, start, end))
    if len(raw) != 1 or is_elsewhere or any(number == _EXTERNAL_DATA for number, *_ in found):
        return None
    ((first, last),) = raw
    before = _begin(data, _RAW_DATA, first, last)
    if before is None or last - first < _LARGE_TENSOR_BYTES:
        return None
    entries = {"location": _NAME, "offset": str(first), "length": str(last - first)}
    told = [_field(1, key.encode()) + _field(2, text.encode()) for key, text in entries.items()]
    places = b"".join(_field(_EXTERNAL_DATA, entry) for entry in told)
    places += bytes([_DATA_LOCATION << 3, 1])
    return data[start:before] + places + data[last:end]  # not behind an end that is cut off


def _field(number: int, content: bytes) -> bytes:
    return header(number, len(content)) + content


def _begin(data: mmap.mmap | bytes, number: int, start: int, end: int) -> int | None:
    """Where a field begins, in front of its content; ``None`` if it is written in another way."""
    expected = header(number, end - start)
    begun = start - len(expected)
    return begun if data[max(begun, 0) : start] == expected else None
