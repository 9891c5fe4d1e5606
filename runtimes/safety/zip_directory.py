"""What a zip file holds, read without unpacking anything, and refused where readers could disagree.

Python's zipfile takes what it can: text before and behind, members that overlap, two of one name.
Here, the central directory must end where the file ends, every member must lie inside and apart
from every other, and its own header must say what the directory says.
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3 to 4.5
"""

import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

STORED: Final = 0
DEFLATED: Final = 8

_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64: Final = struct.Struct("<4sLQL")
_ENTRY: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")

_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000  # the data, strongly, the directory
_UNIX: Final = 3
_FULL: Final = 0xFFFFFFFF
_LARGEST_DIRECTORY: Final = 2**26


@dataclass(frozen=True, slots=True)
class Member:
    """One file in a zip file.

    Attributes:
        offset: Of its first byte in the zip file.
        stored_bytes: How many bytes it takes there.
        size_bytes: How many it has unpacked.
        method: ``STORED`` or ``DEFLATED``.
    """

    name: str
    offset: int
    stored_bytes: int
    size_bytes: int
    method: int


def read_directory(file: IO[bytes], size_bytes: int, most: int) -> dict[str, Member]:
    """The members of a zip file, by name.

    Args:
        file: The zip file, seekable.
        size_bytes: How long it is.
        most: How many members it may have.

    Raises:
        ValueError: It is no zip file, or one that two readers could read differently.
        OSError: It cannot be read.
    """
    count, start, end = _ends(file, size_bytes)
    if count > most:
        raise ValueError(f"it has {count} members, at most {most} are expected")
    file.seek(start)
    directory = file.read(end - start)
    members: dict[str, Member] = {}
    places: list[tuple[int, int, str]] = []
    for entry in _entries(directory, count):
        member = _located(file, entry, start)
        if member.name in members:
            raise ValueError(f"{member.name!r} is in it twice")
        members[member.name] = member
        places.append((entry.header, member.offset + member.stored_bytes, member.name))
    before = 0
    for begin, after, name in sorted(places):
        if begin < before:
            raise ValueError(f"{name!r} overlaps another member")
        before = after
    return members


def read_member(file: IO[bytes], member: Member, most_bytes: int) -> bytes:
    """What is in a member.

    Args:
        file: The zip file.
        member: Of its directory.
        most_bytes: How long it may be, packed and unpacked.

    Raises:
        ValueError: It is longer, or damaged.
        OSError: It cannot be read.
    """
    if max(member.size_bytes, member.stored_bytes) > most_bytes:
        raise ValueError(f"{member.name!r} has {member.size_bytes} bytes, which is too many")
    file.seek(member.offset)
    data = file.read(member.stored_bytes)
    if member.method == DEFLATED:
        try:
            data = zlib.decompressobj(-15).decompress(data, member.size_bytes + 1)
        except zlib.error as e:
            raise ValueError(f"{member.name!r} is damaged: {e}") from e
    if len(data) != member.size_bytes:
        raise ValueError(f"{member.name!r} does not have the size that it says")
    return data


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    method: int
    stored_bytes: int
    size_bytes: int
    header: int


def _ends(file: IO[bytes], size_bytes: int) -> tuple[int, int, int]:
    """How many entries the directory has, where it starts, and where it ends."""
    place = size_bytes - _END.size
    if place < 0:
        raise ValueError("it is no zip file: too short")
    magic, disk, first, here, count, length, start, comment = _END.unpack(_at(file, place, _END))
    if magic != b"PK\5\6" or comment:
        raise ValueError("it is no zip file, or was cut off, or something is behind its end")
    if place >= _LOCATOR_64.size:
        locator = _LOCATOR_64.unpack(_at(file, place - _LOCATOR_64.size, _LOCATOR_64))
        if locator[0] == b"PK\6\7":
            place = locator[2]
            if place + _END_64.size + _LOCATOR_64.size + _END.size != size_bytes:
                raise ValueError("its end is not where it should be")
            found = _END_64.unpack(_at(file, place, _END_64))
            magic, disk, first, here, count, length, start = found[0], *found[4:]
            if magic != b"PK\6\6":
                raise ValueError("its end is damaged")
    if disk or first or here != count:
        raise ValueError("it is a part of a zip file")
    if start + length != place or length > _LARGEST_DIRECTORY:
        raise ValueError("its directory does not end where it should")
    return count, start, place


def _at(file: IO[bytes], place: int, kind: struct.Struct) -> bytes:
    file.seek(place)
    data = file.read(kind.size)
    if len(data) != kind.size:
        raise ValueError("it was cut off")
    return data


def _entries(directory: bytes, count: int) -> Iterator[_Entry]:
    place = 0
    for _ in range(count):
        if place + _ENTRY.size > len(directory):
            raise ValueError("its directory was cut off")
        (magic, made_by, _, flags, method, _, _, _, stored, size, *lengths, _, _, mode, header) = (
            _ENTRY.unpack_from(directory, place)
        )
        name_at = place + _ENTRY.size
        extra_at = name_at + lengths[0]
        place = extra_at + lengths[1] + lengths[2]
        if magic != b"PK\1\2" or place > len(directory):
            raise ValueError("its directory is damaged")
        name = directory[name_at:extra_at]
        told = repr(name.decode("utf-8", "backslashreplace"))
        if flags & _ENCRYPTED:
            raise ValueError(f"{told} is encrypted")
        kind = stat.S_IFMT(mode >> 16) if made_by >> 8 == _UNIX else 0
        if kind not in (0, stat.S_IFREG):
            raise ValueError(f"{told} is no regular file, but a link or a folder")
        size, stored, header = _wide(
            directory[extra_at : extra_at + lengths[1]], [size, stored, header]
        )
        yield _Entry(name, method, stored, size, header)
    if place != len(directory):
        raise ValueError("its directory is longer than its entries")


def _wide(extra: bytes, values: list[int]) -> list[int]:
    """Replace what did not fit into 32 bits by what the zip64 field says."""
    if _FULL not in values:
        return values
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            field = extra[place + 4 : place + 4 + length]
            wanted = sum(value == _FULL for value in values)
            if len(field) < 8 * wanted:
                break
            numbers = iter(struct.unpack_from(f"<{wanted}Q", field))
            return [next(numbers) if value == _FULL else value for value in values]
        place += 4 + length
    raise ValueError("a size does not fit, and nothing says what it is")


def _located(file: IO[bytes], entry: _Entry, end: int) -> Member:
    """Find the data of a member, whose own header must agree with the directory."""
    try:
        name = entry.name.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ValueError(f"the name {entry.name!r} is not UTF-8") from e
    if entry.method not in (STORED, DEFLATED):
        raise ValueError(f"{name!r} is compressed by method {entry.method}")
    if entry.header + _LOCAL.size > end:
        raise ValueError(f"{name!r} lies outside")
    magic, _, flags, method, _, _, _, _, _, length, extra = _LOCAL.unpack(
        _at(file, entry.header, _LOCAL)
    )
    if magic != b"PK\3\4" or method != entry.method or flags & _ENCRYPTED:
        raise ValueError(f"the header of {name!r} is damaged")
    if file.read(length) != entry.name:
        raise ValueError(f"{name!r} has another name in its own header")
    offset = entry.header + _LOCAL.size + length + extra
    if offset + entry.stored_bytes > end:
        raise ValueError(f"{name!r} is longer than the file")
    if entry.method == STORED and entry.stored_bytes != entry.size_bytes:
        raise ValueError(f"{name!r} has two sizes")
    return Member(name, offset, entry.stored_bytes, entry.size_bytes, entry.method)
