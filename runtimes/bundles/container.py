"""Where the files of a bundle are: in a folder, or in one zip file whose members are as they were.

Nothing is unpacked: a member that is not compressed is a part of the zip file, and is read there.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Final, Protocol, TypeAlias

from edgeport.runtimes.errors import (
    EdgeportError,
    FormatError,
    MissingFileError,
    PlaceError,
    StorageError,
    UsageError,
)

if TYPE_CHECKING:  # every import is felt on a small device
    from pathlib import Path

    from edgeport.runtimes.safety.zip_directory import Member

MOST_MEMBERS: Final = 1000
MODELS: Final = (".onnx", ".ort", ".pt", ".pt2", ".pth", ".ts", ".aoti", ".engine", ".rtx")
"""Endings of artefacts, and of other files of models: a bundle holds them, and is none."""


_OTHERS: Final = {
    ".json": (
        "report",
        "compare results of edgeport bench with edgeport compare OLD.json NEW.json; judge figures "
        "of edgeport verify again with edgeport verify --from FILE.json",
    ),
    **dict.fromkeys(
        MODELS,
        (
            "model",
            "make a bundle of the module that it came from: edgeport export package.file:callable "
            "-o NAME.edge; edgeport predict and runtimes.open take .onnx files and .ts files of "
            "edgeport as they are, edgeport.testing.assert_parity compares a file with its module",
        ),
    ),
}
"""What a file of another ending is, and what is done with it."""

Opened: TypeAlias = "tuple[IO[bytes], int]"
"""A file, open at its first byte, and how many of the bytes that follow belong to it."""


class Container(Protocol):
    """What holds the files of a bundle."""

    def __contains__(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def place(self, name: str) -> Path:
        """What to call a file in an error."""
        ...

    def open(self, name: str) -> contextlib.AbstractContextManager[Opened]:
        """Open a file.

        Raises:
            MissingFileError: It is not there.
            FormatError: It leads out of the bundle.
            StorageError: It cannot be read.
        """
        ...


def container(path: Path) -> Container:
    """What is at ``path``.

    Raises:
        MissingFileError: Nothing.
        FormatError: Neither a folder nor a zip file.
        StorageError: It cannot be read.
    """
    with reading(path):
        if path.is_dir():
            return Folder(path)
        if not path.exists():
            link = f", a link to {path.readlink()}" if path.is_symlink() else ""
            raise MissingFileError(
                f"no such bundle: {path}{link}",
                remedy="check the path; download a bundle first if it is on another machine",
            )
        if not path.is_file():  # a pipe, a device
            raise FormatError(
                f"{path} is not a bundle: it is neither a folder nor a file",
                remedy="make one: edgeport export MODEL -o NAME.edge",
            )
    return Zip(path)


def refuse_name_of_model(path: Path) -> None:
    """Refuse a bundle that would be called like a file that it holds: it is a folder, or a zip.

    Raises:
        UsageError: It would.
    """
    if path.suffix in MODELS:
        raise UsageError(
            f"{path} would be a bundle that is named like a {path.suffix} file",
            remedy=f"name it {path.with_suffix('.edge')}: files are in it, as model.onnx is",
        )


class Folder:
    """A folder of files."""

    def __init__(self, path: Path) -> None:
        """Nothing is looked at yet."""
        self.path = path

    def __contains__(self, name: str) -> bool:
        """Whether there is such a file."""
        with reading(self.path / name):
            return (self.path / name).is_file()

    def place(self, name: str) -> Path:
        """Its path."""
        return self.path / name

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Opened]:
        """Open a file; a link is followed only inside the bundle."""
        import os
        import stat

        path = self.path / name
        missing = MissingFileError(f"{path} is missing", remedy="copy the whole bundle again")
        with reading(path):
            if not path.is_file():  # a loop of links neither, and resolve raises at one
                raise missing
            if not path.resolve().is_relative_to(self.path.resolve()):
                raise FormatError(
                    f"{name} leads out of the bundle {self.path}", remedy="don't use this bundle"
                )
            # a pipe that somebody put there since would block for ever
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb", buffering=0) as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise missing
            yield file, found.st_size


class Zip:
    """A zip file of files that are not compressed."""

    def __init__(self, path: Path) -> None:
        """Read its directory.

        Raises:
            FormatError: It is no such file.
            StorageError: It cannot be read.
        """
        from edgeport.runtimes.safety.zip_directory import read_directory

        self.path = path
        with self._file() as (file, size_bytes):
            try:
                members = read_directory(file, size_bytes, MOST_MEMBERS)
                for member in members.values():
                    _check_member(member)
            except ValueError as e:
                if path.suffix in _OTHERS:
                    what, remedy = _OTHERS[path.suffix]
                    raise FormatError(
                        f"{path} is a {what} by its name, and not a bundle", remedy=remedy
                    ) from e
                raise FormatError(
                    f"{path} is not a bundle: {getattr(e, 'problem', e)}",
                    remedy="copy it again; make one: edgeport pack FOLDER --zip -o NAME.edge",
                ) from e
        self._members = members

    def __contains__(self, name: str) -> bool:
        """Whether there is such a file."""
        return name in self._members

    def place(self, name: str) -> Path:
        """The zip file and the name, as if it were a folder."""
        return self.path / name

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Opened]:
        """Open the zip file at a member."""
        member = self._members.get(name)
        if member is None:
            raise MissingFileError(
                f"{self.place(name)} is missing", remedy="copy the whole bundle again"
            )
        with self._file() as (file, _):
            file.seek(member.offset)
            yield file, member.size_bytes

    def _file(self) -> contextlib.AbstractContextManager[Opened]:
        return Folder(self.path.parent).open(self.path.name)


def _check_member(member: Member) -> None:
    from .manifest import check_file_name

    if member.method != 0:
        raise ValueError(f"{member.name!r} is compressed, which a bundle's files are not")
    check_file_name(member.name)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Say what cannot be read, and why.

    Raises:
        PlaceError: A name is longer than the file system has any.
        StorageError: The block raised another ``OSError``.
    """
    try:
        yield
    except EdgeportError:  # some of them are OSErrors
        raise
    except OSError as e:  # no permission, a broken disk
        if e.errno == errno.ENAMETOOLONG:
            raise PlaceError(f"cannot read {path}: {e.strerror}", remedy="check the path") from e
        raise StorageError(
            f"cannot read {path}: {e.strerror or e}", remedy="check its permissions, and the disk"
        ) from e


@contextlib.contextmanager
def signature_in(held: Container, name: str, most_bytes: int, what: str) -> Iterator[bytes]:
    """Read a file that is to be a signature; the block says by a ValueError that it is none.

    Args:
        held: Where it is.
        name: Of the file.
        most_bytes: That it may have.
        what: It is to be.

    Raises:
        FormatError: It is none.
        StorageError: It cannot be read.
    """
    place = held.place(name)
    with held.open(name) as (file, size_bytes), reading(place):
        data = file.read(min(size_bytes, most_bytes + 1))
    try:
        if size_bytes > most_bytes:
            raise ValueError(f"it has {size_bytes} bytes")
        yield data
    except ValueError as e:
        raise FormatError(
            f"{place} is no {what}: {e}",
            remedy="get the bundle again from whoever signed it; or sign it, or remove this file",
        ) from e
