"""Write a bundle anew: with some artefacts, as a folder or a zip file, signed, with a report more.

Every file is checked while it is copied, the manifest comes last, and the place is taken only
when all of it is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import IO, Final, TypeAlias

from edgeport.runtimes import files
from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.safety.private_copy import copy

from .bundle import Bundle, opened
from .container import Container, Zip, container, reading, refuse_name_of_model
from .manifest import (
    FOLDER_SIGNATURE,
    MANIFEST,
    SIGNATURE,
    EvidenceKind,
    Manifest,
    StoredFile,
)
from .signing import Claim, read_signature, sign

_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
"""The date of every member: the same bundle is always the same bytes."""

_READABLE: Final = (stat.S_IFREG | 0o644) << 16


_Create: TypeAlias = Callable[[str, int], AbstractContextManager[IO[bytes]]]
"""Makes a file of a name and a size to be filled."""


def pack(
    path: Path, output: Path, artefacts: Sequence[str] | None = None, *, zipped: bool = False
) -> Bundle:
    """Write a bundle to another place.

    The signature of the manifest goes along if that stays as it is: when all artefacts do. One of
    the folder stays behind, because only what the manifest lists goes along.

    Args:
        path: The bundle.
        output: Where nothing is yet.
        artefacts: The formats that go along; ``None`` for all.
        zipped: Whether to write one file.

    Raises:
        EdgeportError: As ``Bundle.read``.
        FormatError: ``manifest.sig`` is to go along, and is no signature.
        UsageError: The bundle holds no such artefact, or ``output`` ends as a file of a model does.
        ExistingFileError: Something is at ``output``.
        MissingFileError: A file of the bundle is not there.
        IntegrityError: A file is not the one that was packed.
        StorageError: The disk is full, or a place cannot be read or written.
    """
    refuse_name_of_model(output)
    files.refuse_existing(output)
    held, data, manifest = opened(path)
    chosen = _chosen(manifest, path, artefacts)
    signature = read_signature(held) if chosen == manifest else None
    if chosen != manifest:
        data = chosen.dumps().encode()
    with files.parents(output), (_new_zip if zipped else _new_folder)(output) as create:
        _put_files(create, held, chosen.files)
        if signature is not None:
            _put(create, SIGNATURE, signature.data)
        _put(create, MANIFEST, data)
        files.refuse_existing(output)
    return Bundle(output, chosen)


def sign_bundle(path: Path, key: Path) -> Claim:
    """Sign a bundle in place, once all of its files are checked; replace another signature.

    Args:
        path: The bundle.
        key: As in ``signing.sign``.

    Returns:
        The file that holds the signature, and the short name of the key.

    Raises:
        EdgeportError: As ``Bundle.read``, ``Bundle.check_files`` and ``signing.sign``.
        StorageError: It cannot be written; the bundle is as it was.
    """
    with _alone(path):
        return _sign(path, key)


def check_evidence_place(path: Path) -> None:
    """Raise if ``keep_evidence`` can put nothing there: ask before long work.

    Raises:
        UsageError: The bundle is signed.
        EdgeportError: As ``Bundle.read``.
        StorageError: It cannot be written to.
    """
    _refuse_signed(path)
    files.refuse_unfit(path / MANIFEST if path.is_dir() else path.resolve())


def _refuse_signed(path: Path) -> None:
    """Raise if a change would make a signature void."""
    held = container(path)
    if SIGNATURE in held or FOLDER_SIGNATURE in held:
        raise UsageError(
            f"{path} is signed, and what is kept in it now would make the signature void",
            remedy="write the result beside it with --report, or keep it before you sign",
        )


def keep_evidence(path: Path, kind: EvidenceKind, data: bytes) -> str:
    """Put a report into a bundle in place, instead of an earlier one of its kind.

    Its name holds its hash, so that the manifest, which is written last, never names a file that
    is another one.

    Args:
        path: The bundle.
        kind: Of the report.
        data: The report.

    Returns:
        Its name in the bundle.

    Raises:
        UsageError: The bundle is signed.
        EdgeportError: As ``Bundle.read``.
        StorageError: It cannot be written; the bundle is as it was.
    """
    with _alone(path):
        _refuse_signed(path)
        return _keep(path, kind, data)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let nobody else change the bundle meanwhile: they wait.

    A file is replaced when it is changed: whoever has waited for the old one waits for the new one.
    """
    container(path)  # raises if it is no bundle
    while True:
        with reading(path):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(handle), path.stat()):
                yield
                return
        finally:
            os.close(handle)


def _sign(path: Path, key: Path) -> Claim:
    held, data, manifest = opened(path)
    Bundle(path, manifest).check_files()
    signature, claim = sign(path, data, key)
    if not isinstance(held, Zip):
        files.write(path / claim.file, signature)
        return claim
    with _new_zip(path.resolve()) as create:  # what a link leads to is changed; the link stays
        _put_files(create, held, manifest.files)
        _put(create, SIGNATURE, signature)
        _put(create, MANIFEST, data)
    return claim


def _keep(path: Path, kind: EvidenceKind, data: bytes) -> str:
    held, _, manifest = opened(path)
    digest = hashlib.sha256(data).hexdigest()
    stored = StoredFile(f"reports/{kind}-{digest[:8]}.json", digest, len(data))
    changed = replace(manifest, evidence={**manifest.evidence, kind: stored})
    text = changed.dumps().encode()
    if not isinstance(held, Zip):
        with files.parents(path / stored.file):
            files.write(path / stored.file, data)
            files.write(path / MANIFEST, text)
        held_now = {path / each.file for each in changed.files}
        for left in (path / stored.file).parent.glob(f"{kind}*.json"):  # earlier ones, and what
            if left not in held_now:  # somebody who was killed here did not get listed
                left.unlink()
        return stored.file
    with _new_zip(path.resolve()) as create:
        _put_files(create, held, [each for each in changed.files if each != stored])
        _put(create, stored.file, data)
        _put(create, MANIFEST, text)
    return stored.file


def _chosen(manifest: Manifest, path: Path, artefacts: Sequence[str] | None) -> Manifest:
    if artefacts is None:
        return manifest
    held = [artefact.format for artefact in manifest.artefacts]
    absent = [name for name in artefacts if name not in held]
    if absent or not artefacts:
        raise UsageError(
            f"{path} holds no {', '.join(absent) or 'artefact of no name'}",
            remedy=f"it holds {', '.join(held)}",
        )
    return replace(
        manifest, artefacts=tuple(a for a in manifest.artefacts if a.format in artefacts)
    )


@contextlib.contextmanager
def _new_folder(output: Path) -> Iterator[_Create]:
    with files.new_folder(output) as folder:

        def create(name: str, _: int) -> AbstractContextManager[IO[bytes]]:
            path = folder / name
            with files.writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            return files.new_file(path)

        yield create


@contextlib.contextmanager
def _new_zip(output: Path) -> Iterator[_Create]:
    with files.new_file(output) as file, zipfile.ZipFile(file, "w") as archive:

        def create(name: str, size_bytes: int) -> AbstractContextManager[IO[bytes]]:
            member = zipfile.ZipInfo(name, _EARLIEST)
            member.external_attr = _READABLE
            member.file_size = size_bytes  # whether it needs zip64
            return archive.open(member, "w")

        yield create


def _put_files(create: _Create, held: Container, wanted: Iterable[StoredFile]) -> None:
    """Copy files out of a bundle, each once and checked on its way."""
    for stored in {stored.file: stored for stored in wanted}.values():
        with create(stored.file, stored.size_bytes) as file:
            copy(held, stored, file.write)


def _put(create: _Create, name: str, data: bytes) -> None:
    with create(name, len(data)) as file:
        file.write(data)
