"""BYTES tensors on the wire: each element is its length, a little-endian u32, and that many bytes.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import base64
import struct
from typing import Final

import numpy as np

from edgeport.runtimes.errors import InputError
from edgeport.runtimes.inputs import Array

MOST_ELEMENTS: Final = 2**20
"""Of one tensor: each is an object here, so that 60 MB of empty ones would be 3 GB."""

_LENGTH: Final = struct.Struct("<I")


def check_count(name: str, count: int) -> None:
    """Refuse a tensor of too many elements before they are made.

    Raises:
        InputError: They are too many.
    """
    if count > MOST_ELEMENTS:
        raise InputError(
            f"input {name!r} has {count:,} strings, at most {MOST_ELEMENTS:,} are read",
            remedy="send fewer at a time",
        )


def read(name: str, data: bytes | memoryview, count: int) -> Array:
    """Read the elements of a tensor.

    Args:
        name: The input's, for an error.
        data: All of them.
        count: How many there must be.

    Returns:
        (count,) object: ``bytes``.

    Raises:
        InputError: They are more, fewer, cut off, or too many.
    """
    check_count(name, count)
    if count * _LENGTH.size > len(data):  # before anything of that size is made
        raise _wrong(name, f"{len(data)} bytes cannot hold {count} elements")
    found = np.empty(count, object)
    position = 0
    for index in range(count):
        start = position + _LENGTH.size
        if start > len(data):
            raise _wrong(name, f"element {index} has no length")
        position = start + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            raise _wrong(name, f"element {index} is longer than the data")
        found[index] = bytes(data[start:position])
    if position != len(data):
        raise _wrong(name, f"{len(data) - position} bytes are left behind its {count} elements")
    return found


def of_base64(name: str, array: Array) -> Array:
    """What elements mean that are base64: in JSON a string cannot hold the bytes of an image.

    The words for it, ``content_type`` ``base64``, are MLServer's:
    https://mlserver.readthedocs.io/en/latest/user-guide/content-type.html

    Raises:
        InputError: One is not base64.
    """
    found = np.empty(array.size, object)
    for index, value in enumerate(array.ravel().tolist()):
        try:
            found[index] = base64.b64decode(value, validate=True)
        except ValueError as e:
            raise InputError(
                f"string {index} of input {name!r} is not base64: {e}",
                remedy="send base64 alone, without line breaks and without 'data:...;base64,'",
            ) from e
    return found.reshape(array.shape)


def write(array: Array) -> bytes:
    """Write the elements of a tensor in row-major order."""
    parts: list[bytes] = []
    for value in array.ravel().tolist():
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def _wrong(name: str, why: str) -> InputError:
    return InputError(
        f"the binary data of BYTES input {name!r}: {why}",
        remedy="write each element as a little-endian u32 length and its bytes",
    )
