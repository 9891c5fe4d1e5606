"""Whole or not at all: files and folders appear under their name only when they are complete.

Engines' own ``save`` functions leave half a file on a full disk (torch aborts the process), so
everything is serialised to memory and written here.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import ExistingFileError, StorageError


def write(path: Path, data: bytes | str) -> None:
    """Write ``data`` to a temporary file beside ``path``, fsync it, and rename it to ``path``.

    Raises:
        StorageError: The disk is full or the folder is not writable; an old file is untouched.
    """
    temporary = _temporary_name(path)
    try:
        with temporary.open("xb") as file:
            file.write(data.encode("utf-8") if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as e:
        raise _storage_error(path, e) from e
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made: the first error is told
            temporary.unlink()


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that appears at ``path`` only if the block ends without an exception.

    Yields:
        A temporary folder beside ``path``: write into it with ``write``.

    Raises:
        ExistingFileError: ``path`` exists, before or after the block.
        StorageError: The disk is full or the place is not writable.
    """
    refuse_existing(path)
    temporary = _temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    except OSError as e:
        raise _storage_error(path, e) from e
    try:
        yield temporary
        refuse_existing(path)
        try:
            for folder, _, _ in os.walk(temporary):
                _sync_folder(Path(folder))
            temporary.rename(path)
            _sync_folder(path.parent)
        except OSError as e:
            raise _storage_error(path, e) from e
    except StorageError as e:  # told with the name that the user gave
        raise StorageError(
            e.problem.replace(str(temporary), str(path)), remedy=e.remedy
        ) from e.__cause__
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync(path: Path) -> None:
    """Bring a file that somebody else wrote to the disk.

    Raises:
        StorageError: The disk is full.
    """
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as e:
        raise _storage_error(path, e) from e


def refuse_existing(path: Path) -> None:
    """Raise if something is at ``path``.

    Raises:
        ExistingFileError: Something is.
    """
    if os.path.lexists(path):  # a link to nothing is something too
        raise ExistingFileError(
            f"{path} exists already", remedy="remove it, or choose another place with -o"
        )


def make_parents(path: Path) -> None:
    """Make the folder that is to hold ``path``.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise _storage_error(path, e) from e


def _temporary_name(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {path}: {error.strerror or error}",
        remedy="choose another place with -o, or free some space",
    )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
