"""Whole or not at all: files and folders appear under their name only when they are complete.

Engines' own ``save`` functions leave half a file on a full disk (torch aborts the process), so
everything is serialised to memory and written here. What is unfinished has a hidden name beside
the final one and is locked by who writes it: whatever is not locked was left by a process that
was killed, and the next write to the same name removes it.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from .errors import EdgeportError, ExistingFileError, PlaceError, StorageError

_TRIES: Final = 100
"""A cleaner may take a new temporary file for a dead one before it is locked: another is made."""


_NO_SUCH_PLACE: Final = {
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL,
}  # fmt: skip  # one thought
"""What is wrong with the path itself, whatever the disk and the permissions are."""


def write(path: Path, data: bytes | str) -> None:
    """Write ``data`` to a temporary file beside ``path``, fsync it, and rename it to ``path``.

    A symbolic link at ``path`` is replaced, as any old file is; what it leads to stays as it is.

    Raises:
        PlaceError: Something is at ``path`` or above it that no file can replace, or be in.
        StorageError: The disk is full or the folder is not writable; an old file is untouched.
    """
    with new_file(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Fill a file that takes its place at ``path`` only if the block ends without an exception.

    Yields:
        A temporary file beside ``path``, empty.

    Raises:
        PlaceError: Something is at ``path`` or above it that no file can replace, or be in.
        StorageError: The disk is full or the folder is not writable; an old file is untouched.
    """
    refuse_unfit(path)
    with writing(path), _temporary(path, _make_file) as (temporary, handle):
        with os.fdopen(os.dup(handle), "wb") as file:
            yield file
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
        _sync_folder(path.parent)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what cannot be written, and why.

    Raises:
        StorageError: The block raised an ``OSError``.
    """
    try:
        yield
    except EdgeportError:  # some of them are OSErrors
        raise
    except OSError as e:
        raise _storage_error(path, e) from e


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder that appears at ``path`` only if the block ends without an exception.

    Yields:
        A temporary folder beside ``path``: write into it with ``write``.

    Raises:
        ExistingFileError: ``path`` exists, before or after the block.
        PlaceError: A file is where a folder above it should be, or the name is too long.
        StorageError: The disk is full or the place is not writable.
    """
    refuse_existing(path)
    with parents(path), contextlib.ExitStack() as stack:
        with writing(path):
            temporary, _ = stack.enter_context(_temporary(path, _make_folder))
        try:
            yield temporary
            refuse_existing(path)
            with writing(path):
                for folder, _, _ in os.walk(temporary):
                    _sync_folder(Path(folder))
                try:
                    temporary.rename(path)
                except OSError:
                    refuse_existing(path)  # somebody was there first
                    raise
                _sync_folder(path.parent)
        except StorageError as e:  # told with the name that the user gave
            raise type(e)(
                e.problem.replace(str(temporary), str(path)), remedy=e.remedy
            ) from e.__cause__


@contextlib.contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` for what is needed only to make it; gone behind the block.

    Raises:
        StorageError: It cannot be made.
    """
    with contextlib.ExitStack() as stack:
        with writing(path):
            folder, _ = stack.enter_context(_temporary(path, _make_folder))
        yield folder


@contextlib.contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A folder that only this user may enter, and that is gone behind the block.

    Args:
        place: A folder of temporary files.

    Raises:
        OSError: It cannot be made.
    """
    with _temporary(place / f"edgeport-{os.getuid()}", _make_private_folder) as (folder, _):
        yield folder


@contextlib.contextmanager
def parents(path: Path) -> Iterator[None]:
    """Make the folder that is to hold ``path``; if the block fails, take back what is empty.

    Raises:
        PlaceError: A file is in the way, or a name is too long.
        StorageError: It cannot be made.
    """
    _refuse_below_a_file(path)
    missing: list[Path] = []
    try:
        missing += (folder for folder in path.parents if not folder.exists())
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        _take_back(missing)
        raise _storage_error(path, e) from e
    try:
        yield
    except BaseException:
        _take_back(missing)
        raise


def _take_back(folders: Iterable[Path]) -> None:
    for folder in folders:  # the innermost first
        with contextlib.suppress(OSError):  # somebody else uses it by now
            folder.rmdir()


def sync(path: Path) -> None:
    """Bring a file that somebody else wrote to the disk.

    Raises:
        StorageError: The disk is full.
    """
    with writing(path), path.open("rb") as file:
        os.fsync(file.fileno())


def refuse_existing(path: Path) -> None:
    """Raise if something is at ``path``, or if nothing can ever be.

    Raises:
        ExistingFileError: Something is.
        PlaceError: A file is where a folder above it should be, or the name is too long.
    """
    if os.path.lexists(path):  # a link to nothing is something too
        raise ExistingFileError(
            f"{path} exists already",
            remedy="choose another place"
            if _has_to_stay(path)
            else "remove it, or choose another place",
        )
    _refuse_below_a_file(path)


def refuse_unfit(path: Path) -> None:
    """Raise if no file can be written at ``path``, where an old file may be: ask before long work.

    Raises:
        PlaceError: A folder or a device is there, or at the end of a link there; or a file is where
            a folder above it should be, ``..`` leads out of a folder that does not exist, or the
            name is too long.
        StorageError: The nearest folder may not be written to.
    """
    with writing(path), contextlib.suppress(FileNotFoundError, NotADirectoryError):
        mode = path.stat().st_mode  # once: others may write and remove it meanwhile
        if not stat.S_ISREG(mode) or _leads_to_a_process(path):
            what = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise PlaceError(
                f"{path} is {what}, and a file is to be written there",
                remedy="choose another place",
            )
    _refuse_below_a_file(path)
    with writing(path):
        nearest = next(folder for folder in path.parents if folder.is_dir())
        if not os.access(nearest, os.W_OK | os.X_OK):
            fixed = os.statvfs(nearest).f_flag & os.ST_RDONLY
            reason = errno.EROFS if fixed else errno.EACCES
            raise OSError(reason, os.strerror(reason))


def _has_to_stay(path: Path) -> bool:
    """Whether it is a device, a pipe, a socket or the folder we stand in: none is to be removed."""
    if path.is_dir():
        return any(path.samefile(place) for place in (".", "/"))
    is_other = path.exists() and not path.is_file()
    return is_other or _leads_to_a_process(path)


def _leads_to_a_process(path: Path) -> bool:
    """Whether it is ``/dev/stdout`` or its like, a link that root would replace for everybody."""
    return path.is_symlink() and str(path.readlink()).startswith("/proc/")


def _refuse_below_a_file(path: Path) -> None:
    with writing(path):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()  # too long a name, a loop of links
        astray = next((f for f in path.parents if f.name == ".." and not f.parent.exists()), None)
        if astray is not None:  # to make that folder would leave it behind
            raise PlaceError(
                f"{astray.parent} does not exist, so {path} leads nowhere",
                remedy="write the path without ..",
            )
        nearest = next((folder for folder in path.parents if os.path.lexists(folder)), None)
        if nearest is not None and not nearest.is_dir():
            raise PlaceError(
                f"{nearest} is no folder, so {path} cannot be made in it",
                remedy="choose another place",
            )


@contextlib.contextmanager
def _temporary(path: Path, make: Callable[[Path], int]) -> Iterator[tuple[Path, int]]:
    """Something unfinished beside ``path``, removed in the end unless it was renamed.

    Yields:
        Where it is, and the open handle that holds its lock.
    """
    remove_dead(path)
    temporary, handle = _made_and_locked(path, make)
    try:
        yield temporary, handle
    finally:
        try:
            _remove(temporary)
        finally:
            os.close(handle)


def _made_and_locked(path: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    for _ in range(_TRIES):
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
        try:
            handle = make(temporary)
            with contextlib.suppress(OSError):  # a file system without locks: nobody cleans there
                fcntl.flock(handle, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(temporary.lstat(), os.fstat(handle)):
                    return temporary, handle
        except KeyboardInterrupt:
            _remove(temporary)
            raise
        os.close(handle)
    raise OSError(f"something removes every temporary file in {path.parent}")


def _make_file(temporary: Path) -> int:
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _make_folder(temporary: Path, mode: int = 0o777) -> int:
    temporary.mkdir(mode)
    return os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)


def _make_private_folder(temporary: Path) -> int:
    return _make_folder(temporary, 0o700)


def remove_dead(path: Path) -> None:
    """Remove what processes left behind that were killed while they wrote to ``path``.

    Each write to ``path`` begins with it. It raises nothing: who writes there says what is wrong.
    """
    start, end = f".{path.name}.", ".tmp"
    try:
        with os.scandir(path.parent) as entries:
            found = [entry.name for entry in entries if entry.name.startswith(start)]
    except OSError:  # whoever writes there will say it
        return
    for name in found:
        if name.endswith(end) and len(name) == len(start) + 8 + len(end):
            with contextlib.suppress(OSError):
                _remove_unless_locked(path.parent / name)


def _remove_unless_locked(left: Path) -> None:
    handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its owner lives
        _remove(left)
    finally:
        os.close(handle)


def _remove(temporary: Path) -> None:
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # renamed
            temporary.unlink()


def _storage_error(path: Path, error: OSError) -> StorageError:
    problem = f"cannot write {path}: {error.strerror or error}"
    if error.errno in _NO_SUCH_PLACE:
        return PlaceError(problem, remedy="choose another place")
    return StorageError(problem, remedy="choose another place, free some space or get permission")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
