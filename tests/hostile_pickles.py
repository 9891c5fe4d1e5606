"""Pickles and TorchScript archives written by hand, as torch never writes them."""

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Final

HEAD: Final = b"\x80\x02"

DOUBLING: Final = b")" + b"".join(b"q%ch%c\x86" % (place, place) for place in range(60))
"""A tuple of 2^60 paths in 301 bytes: each level holds the one below twice."""

BAD_KEYS: Final[Mapping[str, bytes]] = {
    "a tuple that doubles 60 times": DOUBLING,
    "a tuple of 200,000 levels": b")" + b"\x85" * 200_000,
    "a storage of 5,000 levels": b"N" + b"Q" * 5000,
    "a list": b"]",
    "nothing": b"N",
    "a call": b"cos\nsystem\n",
}


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def keyed(key: bytes, value: bytes = b"N") -> bytes:
    """A dictionary of one key."""
    return HEAD + b"}" + key + value + b"s."


def view(
    shape: Sequence[int], strides: Sequence[int], offset: int = 0, file: bytes = b"X\1\0\0\0000"
) -> bytes:
    """A view of the floats in a file, as an opcode sequence."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + file + text("cpu") + b"K\x01tQ"
    sizes = b"".join(b"(" + b"".join(map(number, each)) + b"t" for each in (shape, strides))
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + sizes + b"\x89}tR"


def nested(key: str, levels: int) -> bytes:
    """Dictionaries of one key, the innermost empty."""
    value = b"}"
    for _ in range(levels):
        value = b"}" + text(key) + value + b"s"
    return HEAD + value + b"."


def archive(pickled: bytes, storage: bytes = bytes(64)) -> bytes:
    """A TorchScript archive of little more than a pickle, compressed."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/data/0", storage)
    return made.getvalue()


def one(*args: Sequence[int], offset: int = 0, file: bytes = b"X\1\0\0\0000") -> bytes:
    """An archive of one tensor ``w``."""
    return archive(keyed(text("w"), view(args[0], args[1], offset, file)))


def many(tensors: Sequence[bytes], storage: bytes = bytes(64)) -> bytes:
    """An archive of a list of tensors."""
    return archive(HEAD + b"](" + b"".join(tensors) + b"e.", storage)
