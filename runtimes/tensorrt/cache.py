"""Engines that were built, kept on disk: building one takes seconds to minutes.

An engine fits one model, one version of TensorRT, one kind of GPU and one set of options; all of
them are its key. An entry is a file whose name is the key's hash and which begins with the key
itself, so nothing in it is parsed before it is known to be what was asked for. What is damaged,
or somebody else's, is built again and never shown to TensorRT, which runs what an engine holds.

Processes need no lock: an entry appears whole under its name (``files.new_file``), two that build
the same engine write the same entry, and whoever reads an entry while it is evicted or replaced
still has all of it.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeport.runtimes import files
from edgeport.runtimes.errors import EdgeportError, StorageError

LARGEST_BYTES: Final = 8 * 2**30
"""Of all entries together: a few dozen engines of a few hundred MB."""

_SUFFIX: Final = ".engine"
_UNFINISHED: Final = ".tmp"
_MAGIC: Final = b"edgeport engine 1\n"
_DIGEST_BYTES: Final = hashlib.sha256().digest_size


@dataclass(frozen=True, slots=True)
class EngineKey:
    """What an engine is for; any difference makes another engine.

    Attributes:
        onnx_sha256: Of the model, and of the files with weights that it names.
        library: ``"tensorrt"`` or ``"tensorrt-rtx"``.
        version: Of the library.
        gpu: Its name, or "" for an engine that is built for compute capabilities, without a GPU.
        compute_capability: Such as ``"8.9"``, or several: ``"8.6,8.9"``.
        options: How it is built, among it the optimisation profile: plain values for JSON.
    """

    onnx_sha256: str
    library: str
    version: str
    gpu: str
    compute_capability: str
    options: Mapping[str, object]

    def to_bytes(self) -> bytes:
        """The same bytes for equal keys."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    @property
    def file(self) -> str:
        """Name of its entry."""
        return hashlib.sha256(self.to_bytes()).hexdigest() + _SUFFIX


@dataclass(frozen=True, slots=True)
class Kept:
    """An engine, from the cache or new.

    Attributes:
        data: What was built.
        built: Whether it was built now.
        note: Why an entry that was there was not used, or why the new one was not kept.
    """

    data: bytes
    built: bool
    note: str | None = None


class EngineCache:
    """A folder of engines. Safe to share between threads and processes.

    Args:
        folder: Where; ``None`` for ``edgeport/engines`` in the user's folder of caches.
        largest_bytes: What all entries may take together: the least recently used ones go first.
    """

    def __init__(self, folder: Path | None = None, largest_bytes: int = LARGEST_BYTES) -> None:
        self.folder = default_folder() if folder is None else folder
        self._largest_bytes = largest_bytes

    def get(self, key: EngineKey, build: Callable[[], bytes]) -> Kept:
        """Read the engine of a key, or build and keep it.

        Args:
            key: What it is for.
            build: Makes it. Its errors pass through, and nothing is kept then.

        Returns:
            The engine. A cache that can't be read or written is told of, and stops nobody.
        """
        path = self.folder / key.file
        found, reason = _read(path, key)
        if found is not None:
            with contextlib.suppress(OSError):  # a cache that is read-only
                os.utime(path)  # used now: what was not used for longest is evicted first
            return Kept(found, built=False)
        data = build()
        unkept = self._keep(path, key, data)
        return Kept(data, built=True, note="; ".join(filter(None, (reason, unkept))) or None)

    def _keep(self, path: Path, key: EngineKey, data: bytes) -> str | None:
        """Write an entry. Returns why not."""
        head = _head(key)
        size = len(head) + _DIGEST_BYTES + len(data)
        if size > self._largest_bytes:
            return f"not kept: {size} bytes are more than the cache's {self._largest_bytes}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(OSError):
                if not path.is_file():  # a pipe that somebody put there; a folder is told below
                    path.unlink()
            with files.new_file(path) as file:
                os.fchmod(file.fileno(), 0o600)
                for part in (head, hashlib.sha256(data).digest(), data):
                    file.write(part)
        except (StorageError, OSError) as e:
            return f"not kept: {e.problem if isinstance(e, EdgeportError) else e}"
        self._evict(path)
        return None

    def _evict(self, newest: Path) -> None:
        """Remove what was not used for longest, until the rest fits."""
        entries = []
        with contextlib.suppress(OSError), os.scandir(self.folder) as found:
            for each in found:
                if each.name.endswith(_UNFINISHED):  # of a process that was killed, or writes now
                    files.remove_dead(self.folder / each.name[1:].rsplit(".", 2)[0])
                elif each.name.endswith(_SUFFIX):
                    with contextlib.suppress(OSError):  # another process removed it
                        known = each.stat(follow_symlinks=False)
                        entries.append((known.st_mtime_ns, known.st_size, Path(each.path)))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._largest_bytes:
                break
            if path != newest:
                with contextlib.suppress(OSError):
                    path.unlink()
                total -= size


def default_folder() -> Path:
    """Where the user's programs keep what can be made again.

    ``XDG_CACHE_HOME`` counts if it is absolute, as its specification says:
    https://specifications.freedesktop.org/basedir-spec/latest/

    Raises:
        StorageError: The user has no home, and no such folder is named.
    """
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        caches = Path(home) if Path(home).is_absolute() else Path("~/.cache").expanduser()
    except RuntimeError as e:  # no home
        raise StorageError(
            f"there is no place to keep engines: {e}", remedy="set XDG_CACHE_HOME to a folder"
        ) from e
    return caches / "edgeport" / "engines"


def _head(key: EngineKey) -> bytes:
    described = key.to_bytes()
    return _MAGIC + len(described).to_bytes(8, "little") + described


def _read(path: Path, key: EngineKey) -> tuple[bytes | None, str | None]:
    """The engine of an entry, else why there is none; no reason is needed if no entry is there."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None, None
    except OSError as e:
        return None, f"the entry cannot be read: {e.strerror}"
    known = os.fstat(handle)
    if not stat.S_ISREG(known.st_mode) or known.st_uid != os.geteuid() or known.st_mode & 0o022:
        os.close(handle)
        return None, "the entry was not used: it is no file that only this user can write"
    with os.fdopen(handle, "rb") as file:
        try:
            head = _head(key)
            if file.read(len(head)) != head:
                return None, "the entry was not used: it is of another key, or damaged"
            digest, data = file.read(_DIGEST_BYTES), file.read()
        except (OSError, MemoryError) as e:
            return None, f"the entry cannot be read: {e}"
    if hashlib.sha256(data).digest() != digest:
        return None, "the entry was not used: it is damaged"
    return data, None
