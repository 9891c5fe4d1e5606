"""Shared libraries that a library needs: which they are, and which of them are not there.

An engine's message names the first one that is missing; whoever installs wants to know all.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

_LOAD, _DYNAMIC = 1, 2  # p_type
_NEEDED, _STRTAB = 1, 5  # d_tag; https://gabi.xinuos.com/elf/08-dynamic.html
_ELF64_LITTLE: Final = b"\x7fELF\x02\x01"


def needed_by(path: Path) -> tuple[str, ...]:
    """The names of the libraries that a shared library is linked with, as its file lists them.

    Raises:
        ValueError: It is no ELF file of 64 bits, or damaged.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(64)
        if header[:6] != _ELF64_LITTLE or len(header) < 64:
            raise ValueError(f"{path} is no ELF file of 64 bits, little-endian")

        end = file.seek(0, os.SEEK_END)

        def read(offset: int, size: int) -> bytes:
            if offset + size > end:
                raise ValueError(f"{path} ends too early")
            file.seek(offset)
            return file.read(size)

        (start,), (size, count) = (
            struct.unpack_from("<Q", header, 32),  # e_phoff
            struct.unpack_from("<2H", header, 54),  # e_phentsize, e_phnum
        )
        segments = [_segment(read(start + n * size, 56)) for n in range(count)]
        dynamic = next((s for s in segments if s[0] == _DYNAMIC), None)
        if dynamic is None:
            return ()
        entries = list(struct.iter_unpack("<qQ", read(dynamic[1], dynamic[3] // 16 * 16)))
        table = next((value for tag, value in entries if tag == _STRTAB), 0)
        names = [_offset(segments, table) + value for tag, value in entries if tag == _NEEDED]
        return tuple(_text(read, place) for place in names)


def load_all(names: Iterable[str]) -> tuple[str, ...]:
    """Load libraries for all who look for them later, and return the names of those that fail.

    The loader's own places come first, then the wheels of NVIDIA, which it does not know:
    ``site-packages/nvidia/*/lib``. What is loaded already, by torch for example, is there.
    """
    waiting = list(names)
    while waiting:  # what one needs may be another of them: until no more can be loaded
        left = [name for name in waiting if not _load(name)]
        if len(left) == len(waiting):
            break
        waiting = left
    return tuple(waiting)


def _load(name: str) -> bool:
    for place in (name, *_in_wheels(name)):
        with contextlib.suppress(OSError):
            ctypes.CDLL(place, mode=ctypes.RTLD_GLOBAL)
            return True
    return False


def _in_wheels(name: str) -> Iterator[str]:
    from importlib.util import find_spec

    found = find_spec("nvidia")
    for root in (found and found.submodule_search_locations) or ():
        yield from map(str, sorted(Path(root).glob(f"*/lib/{name}")))


def _segment(data: bytes) -> tuple[int, int, int, int]:
    """Type, offset in the file, address in memory, size in the file."""
    kind, _, offset, address, _, size = struct.unpack_from("<2I4Q", data)
    return kind, offset, address, size


def _offset(segments: Iterable[tuple[int, int, int, int]], address: int) -> int:
    for kind, offset, start, size in segments:
        if kind == _LOAD and start <= address < start + size:
            return offset + address - start
    raise ValueError("its table of names is nowhere")


def _text(read: Callable[[int, int], bytes], place: int) -> str:
    text = b""
    while not text.endswith(b"\0"):
        text += read(place + len(text), 1)
    return text[:-1].decode("utf-8", "replace")
