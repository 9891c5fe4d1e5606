"""AOTInductor packages: looked through, and unpacked to where only this process looks.

Torch's own loader unpacks all members below ``/tmp`` and opens what it finds there. Here there are
one shared library and some JSON beside it, and no code is run before they are told from others.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from edgeport.runtimes.errors import StorageError

from .torch_limits import archive_members
from .zip_directory import STORED, Member

FOLDER: Final = "data/aotinductor/model"

LIBRARY: Final = "model.wrapper.so"
CALLS: Final = "model.wrapper.json"
"""Which operators the library calls through torch's dispatcher, if it does."""
METADATA: Final = "model.wrapper_metadata.json"
"""What torch's own loader compares with the machine; it warns."""

_MEMBERS: Final = re.compile(
    rf"{FOLDER}/(?:{re.escape(LIBRARY)}|{re.escape(CALLS)}|{re.escape(METADATA)})"
    r"|extra/edgeport\.\w+\.json"
    r"|archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
)
_CHUNK_BYTES: Final = 2**20


def check_aoti(file: IO[bytes], size_bytes: int) -> None:
    """Refuse a package that holds what edgeport does not write.

    Raises:
        ValueError: So it is.
        OSError: It cannot be read.
    """
    _read(file, size_bytes)


@contextlib.contextmanager
def unpacked(path: Path, name: str) -> Iterator[Path]:
    """Write the library and what belongs to it into a folder, which is gone behind the block.

    What was loaded from there stays loaded.

    Args:
        path: The package.
        name: What to call it in an error.

    Yields:
        The library.

    Raises:
        ValueError: It is no such package.
        StorageError: There is no place for it, or none from which programs may be run.
    """
    from edgeport.runtimes import files

    with contextlib.ExitStack() as stack:
        with path.open("rb") as file:
            members = _read(file, path.stat().st_size)
            place = _place(sum(member.size_bytes for member in members.values()), name)
            try:
                folder = stack.enter_context(files.scratch_folder(place))
                for inside, member in members.items():
                    _copy(file, member, folder / inside)
            except OSError as e:
                raise StorageError(
                    f"cannot unpack {name} in {place}: {e.strerror or e}", remedy=_ELSEWHERE
                ) from e
        yield folder / LIBRARY


_ELSEWHERE: Final = "set TMPDIR to a folder with space, from which programs may be run"


def _read(file: IO[bytes], size_bytes: int) -> Mapping[str, Member]:
    """The members that are used, by the name that they get."""
    members = archive_members(file, size_bytes)
    used: dict[str, Member] = {}
    for name, member in members.items():
        inside = name.partition("/")[2]
        if not _MEMBERS.fullmatch(inside):
            raise ValueError(f"it holds {name!r}, which edgeport does not write")
        if member.method != STORED:
            raise ValueError(f"{name!r} is compressed, which torch never does")
        folder, _, to = inside.rpartition("/")
        if folder in (FOLDER, "extra"):
            used[to] = member
    if LIBRARY not in used:
        raise ValueError("it holds no library")
    return used


def _place(needed: int, name: str) -> Path:
    """Where temporary files are, or else in memory: what is mapped there cannot be given back."""
    import tempfile

    for place in (Path(tempfile.gettempdir()), Path("/dev/shm")):
        with contextlib.suppress(OSError):
            found = os.statvfs(place)
            free = found.f_bavail * found.f_frsize
            if free > needed and not found.f_flag & os.ST_NOEXEC and os.access(place, os.W_OK):
                return place
    raise StorageError(
        f"cannot unpack {name}: neither {tempfile.gettempdir()} nor /dev/shm has "
        f"{needed} bytes free and lets programs run",
        remedy=_ELSEWHERE,
    )


def _copy(file: IO[bytes], member: Member, to: Path) -> None:
    file.seek(member.offset)
    left = member.stored_bytes
    with to.open("xb") as written:
        while left:
            chunk = file.read(min(_CHUNK_BYTES, left))
            if not chunk:
                raise ValueError(f"{member.name!r} was cut off")
            written.write(chunk)
            left -= len(chunk)
