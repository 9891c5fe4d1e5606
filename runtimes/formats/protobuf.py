"""Walk a protobuf encoding without a schema: lengths are followed, what they hold is jumped over.

https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import TypeAlias

Data: TypeAlias = "mmap.mmap | bytes"


def parts(data: Data, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of every field of a message that has a length.

    Where protobuf would give up, this ends or reads on: it never sees less than protobuf does.
    """
    while place < end:
        tag, place = _varint(data, place, end)
        wire_type = tag & 7
        if wire_type == 2:
            size, place = _varint(data, place, end)
            if size > end - place:
                return
            yield (tag & 0xFFFFFFFF) >> 3, place, place + size  # protobuf keeps 32 bits of a tag
            place += size
        elif wire_type == 0:
            _, place = _varint(data, place, end)
        elif wire_type in (1, 5):
            place += 8 if wire_type == 1 else 4
        # 3 and 4 open and close a group, whose fields are read as if they were the message's own


def is_flat(data: Data, place: int, end: int) -> bool:
    """Whether a message has no groups, in whose fields ``parts`` sees more than protobuf does."""
    while place < end:
        tag, place = _varint(data, place, end)
        wire_type = tag & 7
        if wire_type in (0, 2):
            value, place = _varint(data, place, end)
            place += value if wire_type == 2 else 0
        elif wire_type in (1, 5):
            place += 8 if wire_type == 1 else 4
        else:
            return False
    return True


def _varint(data: Data, place: int, end: int) -> tuple[int, int]:
    """A number and the place behind it; ``end`` where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if place == end:
            break
        byte = data[place]
        place += 1
        if byte < 0x80:
            return value | byte << shift, place
        value |= (byte & 0x7F) << shift
    return 0, end


def numbers(data: Data, place: int, end: int, *, packed: bool = False) -> Iterator[tuple[int, int]]:
    """Number and value of every field of a message that is a number of variable length.

    Args:
        data: What holds the message.
        place: Where it starts.
        end: Where it ends.
        packed: Whether it is no message but such numbers alone, whose field is 0.
    """
    while place < end:
        tag = 0
        if not packed:
            tag, place = _varint(data, place, end)
        wire_type = tag & 7
        if wire_type == 0:
            value, place = _varint(data, place, end)
            yield (tag & 0xFFFFFFFF) >> 3, value
        elif wire_type == 2:
            size, place = _varint(data, place, end)
            place += size
        elif wire_type in (1, 5):
            place += 8 if wire_type == 1 else 4


def header(number: int, size: int) -> bytes:
    """What stands in front of a field that has a length.

    Args:
        number: Of the field.
        size: Of its content, in bytes.
    """
    found = bytearray()
    for value in (number << 3 | 2, size):
        while value >= 0x80:
            found.append(value & 0x7F | 0x80)
            value >>= 7
        found.append(value)
    return bytes(found)
