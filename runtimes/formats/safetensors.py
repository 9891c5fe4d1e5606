"""Read safetensors with numpy alone: a device needs numpy and one engine, nothing more.

The format: 8 bytes little-endian length, that many bytes of JSON (name -> dtype, shape,
data_offsets), then the data. https://github.com/huggingface/safetensors#format
Nothing is allocated that the file does not hold: every array is a view of its bytes.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgeport.runtimes.errors import FormatError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import LARGEST_DIMENSION

from .strict_json import expect, fields, parse

_DTYPES: Final = {
    "BOOL": "?",
    "U8": "<u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
    "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip  # grouped by kind

_MOST_AXES: Final = 32  # numpy 1 takes no more


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_safetensors(data: bytes, name: str) -> dict[str, Array]:
    """Parse the content of a safetensors file.

    Args:
        data: The whole file.
        name: What to call it in an error.

    Returns:
        Read-only arrays that share memory with ``data``; they may be unaligned.

    Raises:
        FormatError: Truncated, overlapping, out of range, or not safetensors at all.
    """
    try:
        header, start = _header(data)
        entries = [_entry(key, value) for key, value in header.items() if key != "__metadata__"]
        _check_cover(entries, len(data) - start)
    except ValueError as e:
        raise FormatError(
            f"{name} is not a safetensors file: {e}", remedy="copy or export it again"
        ) from e
    return {
        entry.name: np.frombuffer(
            data, entry.dtype, math.prod(entry.shape), start + entry.begin
        ).reshape(entry.shape)
        for entry in entries
    }


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    if len(data) < 8:
        raise ValueError("it is shorter than 8 bytes")
    start = 8 + int.from_bytes(data[:8], "little")
    if start > len(data):
        raise ValueError("its header is longer than the file")
    return expect(dict, parse(data[8:start]), "its header"), start


def _entry(name: str, value: object) -> _Entry:
    dtype, shape, offsets = fields(value, "dtype", "shape", "data_offsets")
    if expect(str, dtype, "a dtype") not in _DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one that numpy has")
    sizes = [_natural(size) for size in expect(list, shape, "a shape")]
    ends = [_natural(offset) for offset in expect(list, offsets, "data_offsets")]
    if len(sizes) > _MOST_AXES or max(sizes, default=0) > LARGEST_DIMENSION or len(ends) != 2:
        raise ValueError(f"tensor {name!r} has a shape or offsets out of range")
    return _Entry(name, _DTYPES[dtype], tuple(sizes), *ends)


def _natural(value: object) -> int:
    number = expect(int, value, "a size or offset")
    if number < 0:
        raise ValueError(f"a size or offset is {number}, expected 0 or more")
    return number


def _check_cover(entries: list[_Entry], size_bytes: int) -> None:
    """Every byte of the data belongs to one tensor: no hole, no overlap, no end outside."""
    place = 0
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        length = math.prod(entry.shape) * np.dtype(entry.dtype).itemsize
        if entry.begin != place or entry.end - entry.begin != length:
            raise ValueError(f"tensor {entry.name!r} does not begin or end where it should")
        place = entry.end
    if place != size_bytes:
        raise ValueError(f"it has {size_bytes} bytes of data, and describes {place}")
