"""The weights of an ONNX file, told without the onnx package, from its bytes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from edgeport.runtimes.formats import onnx_fields as fields
from edgeport.runtimes.formats.protobuf import Data, numbers, parts

from .of_artefact import Weight

_DTYPES: Final[Mapping[int, str]] = {  # TensorProto.DataType
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip  # three lines are enough

_PLAIN: Final = (fields.TENSOR_RAW_DATA, fields.TENSOR_FLOAT_DATA, fields.TENSOR_DOUBLE_DATA)
"""All little-endian."""
_VARYING: Final = (fields.TENSOR_INT32_DATA, fields.TENSOR_INT64_DATA, fields.TENSOR_UINT64_DATA)
"""Numbers of variable length."""


def read_weights(
    data: Data, external: Callable[[str, int, int | None], bytes]
) -> dict[str, Weight]:
    """The initialisers of the main graph, by name; a dtype of no name is called "type 99".

    Args:
        data: The ONNX file.
        external: Reads a part of a file beside it: its name, an offset, a length or ``None`` for
            all that follows.

    Raises:
        ValueError: A part of an external file is nowhere.
    """
    found: dict[str, Weight] = {}
    for graph in fields.each(data, 0, len(data), fields.MODEL_GRAPH):
        for tensor in fields.each(data, *graph, fields.GRAPH_INITIALIZER):
            weight = _weight(data, *tensor, external)
            found[weight.name] = weight
    return found


def _weight(
    data: Data, start: int, end: int, external: Callable[[str, int, int | None], bytes]
) -> Weight:
    shape: list[int] = []
    name, content = "", None
    varying: list[int] = []
    beside: dict[str, str] = {}
    for number, first, last in parts(data, start, end):
        if number == fields.TENSOR_NAME:
            name = fields.text(data, first, last)
        elif number == fields.TENSOR_DIMS:  # packed
            shape += (value for _, value in numbers(data, first, last, packed=True))
        elif number in _PLAIN:
            content = data[first:last]
        elif number in _VARYING:
            varying += (value for _, value in numbers(data, first, last, packed=True))
        elif number == fields.TENSOR_EXTERNAL_DATA:
            beside.update([fields.entry(data, first, last)])
    kind = 0
    for number, value in numbers(data, start, end):
        if number == fields.TENSOR_DIMS:
            shape.append(value)
        elif number == fields.TENSOR_DATA_TYPE:
            kind = value
    if "location" in beside:
        length = beside.get("length")
        size = None if length is None else int(length)
        content = external(beside["location"], int(beside.get("offset", "0")), size)
    dtype = _DTYPES.get(kind, f"type {kind}")
    if varying:
        content = _narrowed(varying, dtype)
    return Weight(name, dtype, tuple(shape), content)


def _narrowed(values: list[int], dtype: str) -> bytes:
    """Numbers of 64 bits as the dtype stores them; floats of 16 bits are written as their bits."""
    size = 8 if dtype.startswith("type") else 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    wide = np.array([value & 0xFFFF_FFFF_FFFF_FFFF for value in values], "<u8")
    return wide.astype(f"<u{size}").tobytes()
