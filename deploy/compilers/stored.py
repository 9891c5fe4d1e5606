"""What a compiler leaves: files in the folder that becomes the bundle, written whole and hashed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeport.runtimes import files
from edgeport.runtimes.bundles.manifest import Artefact, StoredFile

WRITTEN_BY_THE_WRITER: Final = (".data/version", ".data/serialization_id", "version", "byteorder")
"""What torch's writer of archives writes by itself: to be left out where one is copied."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a route made.

    Attributes:
        artefact: Its files are in the folder.
        debug_map: Private: from the nodes of the artefact to the user's code.
        fixed: Lines of the module that make a number of values, which is that of the example.
        taken: Those of which it has the whole numbers of samples, and refuses others.
        apart: Why it has one way through forward alone, where samples take others.
    """

    artefact: Artefact
    debug_map: str | None = None
    fixed: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    apart: str | None = None


@dataclass(frozen=True, slots=True)
class EngineSource:
    """A file that engines are built from, wherever it is.

    Attributes:
        path: Of the file.
        precision: What it computes in.
        details: Of its artefact.
        debug_map: As that of ``Compiled``.
    """

    path: Path
    precision: str
    details: Mapping[str, int | str]
    debug_map: str | None

    @classmethod
    def of(cls, compiled: Compiled, folder: Path) -> "EngineSource":
        """An artefact in a folder."""
        artefact = compiled.artefact
        path = folder / artefact.stored.file
        return cls(path, artefact.precision, artefact.details, compiled.debug_map)


def store(folder: Path, file: str, data: bytes) -> StoredFile:
    """Write a file of a bundle.

    Raises:
        StorageError: It cannot be written.
    """
    files.write(folder / file, data)
    return StoredFile(file, hashlib.sha256(data).hexdigest(), len(data))


def stored(folder: Path, file: str) -> StoredFile:
    """Hash a file that is in the folder already."""
    path = folder / file
    with path.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return StoredFile(file, sha256, path.stat().st_size)
