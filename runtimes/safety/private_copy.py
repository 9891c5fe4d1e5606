"""Files that nobody else can change: hashed while they are copied, then handed to an engine.

An engine opens a path. Between a hash and that opening, or while weights are mapped, another
process could put other bytes there; so the engine gets a copy in memory that has no name
(``memfd_create``), or, where one file leads to others, a folder that is this user's alone.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final, Protocol

from edgeport.runtimes.bundles.container import Container, reading
from edgeport.runtimes.errors import IntegrityError, OutOfMemoryError, StorageError

from .digest import sha256
from .lease import check_lease, leased

_CHUNK_BYTES: Final = 2**16  # stays in the cache between the hash and the copy
_GIB: Final = 2**30


class Stored(Protocol):
    """A file as the manifest lists it: a ``StoredFile``."""

    @property
    def file(self) -> str:
        """Its name in the bundle."""
        ...

    @property
    def sha256(self) -> str:
        """In hexadecimal digits."""
        ...

    @property
    def size_bytes(self) -> int:
        """How long it is."""
        ...


def check(container: Container, stored: Stored) -> None:
    """Read a file whose size and hash must be those of the manifest.

    Raises:
        MissingFileError: It is not there.
        IntegrityError: It is not the file that was packed.
        FormatError: It leads out of the bundle.
    """
    copy(container, stored, lambda _: None)


def read(container: Container, stored: Stored) -> bytes:
    """The very bytes whose hash was checked.

    Raises:
        MissingFileError: The file is not there.
        IntegrityError: It is not the file that was packed.
        OutOfMemoryError: There is not enough memory.
    """
    _refuse_too_large(container, [stored])
    chunks: list[bytes] = []
    copy(container, stored, lambda chunk: chunks.append(bytes(chunk)))
    return b"".join(chunks)


@contextlib.contextmanager
def steady(container: Container, files: Sequence[Stored]) -> Iterator[Path]:
    """The same as a private copy, for engines that have read all of it when the block ends.

    A file alone, that nobody writes to during the block, need not be copied.

    Raises:
        IntegrityError: Also if somebody began to write to it.
        EdgeportError: As ``private_copy``.
    """
    stored = files[0]
    with contextlib.ExitStack() as stack:
        file, size_bytes = stack.enter_context(container.open(stored.file))
        path = container.place(stored.file)
        is_alone = len(files) == 1 and os.fstat(file.fileno()).st_size == size_bytes
        if is_alone and stack.enter_context(_unchanged(file, path)):
            _refuse_too_large(container, files)
            _compare(file, size_bytes, stored, path)
            check_lease(file)  # or it may be cut off while it is mapped, which is fatal
            yield Path(f"/proc/self/fd/{file.fileno()}")
            return
    with private_copy(container, files) as copied:
        yield copied


@contextlib.contextmanager
def _unchanged(file: IO[bytes], path: Path) -> Iterator[bool]:
    try:
        with leased(file) as is_held:
            yield is_held
    except BlockingIOError as e:
        raise IntegrityError(
            f"{path} was about to be written to while it was opened", remedy="open it again"
        ) from e


@contextlib.contextmanager
def private_copy(container: Container, files: Sequence[Stored]) -> Iterator[Path]:
    """Copy the files of an artefact to where only this process looks.

    Args:
        container: What holds them.
        files: The first is the one that an engine opens; the others are named in it.

    Yields:
        The path of the first. What an engine opened stays open behind the block.

    Raises:
        MissingFileError: A file is not there.
        IntegrityError: A file is not the one that was packed.
        OutOfMemoryError: There is not enough memory.
        StorageError: A copy cannot be written.
    """
    _refuse_too_large(container, files)
    if len(files) > 1:
        with _private_folder(files) as folder:
            for stored in files:
                path = folder / stored.file
                path.parent.mkdir(parents=True, exist_ok=True)
                with _writing(container, stored), path.open("xb") as file:
                    copy(container, stored, file.write)
            yield folder / files[0].file
        return
    handle = os.memfd_create(files[0].file.rpartition("/")[2], os.MFD_CLOEXEC)
    try:
        with _writing(container, files[0]), os.fdopen(os.dup(handle), "wb") as file:
            copy(container, files[0], file.write)
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def copy(container: Container, stored: Stored, take: Callable[[memoryview], object]) -> None:
    """Hand over a file in chunks, and tell in the end whether it is the one that was packed.

    Args:
        container: What holds it.
        stored: Which.
        take: Gets each chunk, which is valid only then. Its exceptions pass.

    Raises:
        MissingFileError: It is not there.
        IntegrityError: It is not the file that was packed.
        FormatError: It leads out of the bundle.
        StorageError: It cannot be read.
    """
    path = container.place(stored.file)
    with container.open(stored.file) as (file, size_bytes):
        _compare(file, size_bytes, stored, path, take)


def _compare(
    file: IO[bytes],
    size_bytes: int,
    stored: Stored,
    path: Path,
    take: Callable[[memoryview], object] = lambda _: None,
) -> None:
    if size_bytes != stored.size_bytes or _digest(file, stored, path, take) != stored.sha256:
        raise IntegrityError(
            f"{path} is not the file that was packed: its size or sha256 differs",
            remedy="copy the bundle again, or export the model again; don't run this file",
        )


def _digest(
    file: IO[bytes], stored: Stored, path: Path, take: Callable[[memoryview], object]
) -> str:
    left = stored.size_bytes
    with contextlib.suppress(OSError):  # the disk reads on while the processor hashes
        os.posix_fadvise(file.fileno(), file.tell(), left, os.POSIX_FADV_WILLNEED)
    digest = sha256(stored.size_bytes)
    chunk = memoryview(bytearray(min(_CHUNK_BYTES, left)))
    while left > 0:
        with reading(path):
            part = chunk[: file.readinto(chunk[:left])]  # type: ignore[attr-defined]  # a raw file
        if not part:
            break  # cut off meanwhile: another hash
        digest.update(part)
        take(part)
        left -= len(part)
    return digest.hexdigest()


@contextlib.contextmanager
def _writing(container: Container, stored: Stored) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        if hasattr(e, "remedy"):  # ours: what was read
            raise
        raise StorageError(
            f"cannot copy {container.place(stored.file)} to a private place: {e.strerror or e}",
            remedy="free some memory and some space, or set TMPDIR to a place that has it",
        ) from e


@contextlib.contextmanager
def _private_folder(files: Sequence[Stored]) -> Iterator[Path]:
    """In memory if it fits there, or else where temporary files are."""
    import shutil
    import tempfile

    from edgeport.runtimes import files as storage

    needed = sum(stored.size_bytes for stored in files)
    shared = Path("/dev/shm")
    fits = os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > needed
    with storage.scratch_folder(shared if fits else Path(tempfile.gettempdir())) as folder:
        yield folder


def _refuse_too_large(container: Container, files: Sequence[Stored]) -> None:
    needed, free = sum(stored.size_bytes for stored in files), free_memory_bytes()
    if free is not None and needed > free and all(_has_size(container, each) for each in files):
        raise OutOfMemoryError(
            f"{container.place(files[0].file)} has {needed / _GIB:.1f} GiB, "
            f"and {free / _GIB:.1f} GiB of memory are free",
            remedy="use a machine with more memory",
        )


def _has_size(container: Container, stored: Stored) -> bool:
    """Whether a file has the size that the manifest tells: if not, its hash is not right either."""
    with container.open(stored.file) as (_, size_bytes):
        return size_bytes == stored.size_bytes


def free_memory_bytes() -> int | None:
    """What the machine can still give without swapping; ``None`` where it does not say."""
    with contextlib.suppress(OSError), Path("/proc/meminfo").open("rb") as lines:
        for line in lines:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None
