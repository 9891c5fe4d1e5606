"""The weights of an ONNX file, told without the onnx package, from its bytes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from edgeport.runtimes.formats.protobuf import Data, numbers, parts

from .of_artefact import Weight

_DTYPES: Final[Mapping[int, str]] = {  # TensorProto.DataType
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip  # three lines are enough

_GRAPH, _INITIALIZER = 7, 5
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL = 1, 2, 8, 13
_PLAIN: Final = (9, 4, 10)  # raw_data, float_data, double_data: all little-endian
_VARYING: Final = (5, 7, 11)  # int32_data, int64_data, uint64_data: numbers of variable length


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
    for number, start, end in parts(data, 0, len(data)):
        if number == _GRAPH:
            for inner, first, last in parts(data, start, end):
                if inner == _INITIALIZER:
                    weight = _weight(data, first, last, external)
                    found[weight.name] = weight
    return found


def _weight(
    data: Data, start: int, end: int, external: Callable[[str, int, int | None], bytes]
) -> Weight:
    shape: list[int] = []
    name, content = "", None
    varying: list[int] = []
    beside: dict[bytes, bytes] = {}
    for number, first, last in parts(data, start, end):
        if number == _NAME:
            name = data[first:last].decode("utf-8", "replace")
        elif number == _DIMS:  # packed
            shape += (value for _, value in numbers(data, first, last, packed=True))
        elif number in _PLAIN:
            content = data[first:last]
        elif number in _VARYING:
            varying += (value for _, value in numbers(data, first, last, packed=True))
        elif number == _EXTERNAL:
            entry = {key: data[begin:after] for key, begin, after in parts(data, first, last)}
            beside[entry.get(1, b"")] = entry.get(2, b"")
    kind = 0
    for number, value in numbers(data, start, end):
        if number == _DIMS:
            shape.append(value)
        elif number == _DATA_TYPE:
            kind = value
    if b"location" in beside:
        length = beside.get(b"length")
        content = external(
            beside[b"location"].decode("utf-8", "replace"),
            int(beside.get(b"offset", b"0")),
            None if length is None else int(length),
        )
    dtype = _DTYPES.get(kind, f"type {kind}")
    if varying:
        content = _narrowed(varying, dtype)
    return Weight(name, dtype, tuple(shape), content)


def _narrowed(values: list[int], dtype: str) -> bytes:
    """Numbers of 64 bits as the dtype stores them; floats of 16 bits are written as their bits."""
    size = 8 if dtype.startswith("type") else 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
    wide = np.array([value & 0xFFFF_FFFF_FFFF_FFFF for value in values], "<u8")
    return wide.astype(f"<u{size}").tobytes()
