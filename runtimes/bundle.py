"""Read a bundle. Nothing in it is opened before its size and hash are those of the manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from .errors import (
    EdgeportError,
    FormatError,
    IntegrityError,
    MissingFileError,
    StorageError,
    UsageError,
)
from .manifest import Artefact, Manifest, StoredFile
from .session import BACKENDS, FORMATS, Options, Session, backend, open_artefact

if TYPE_CHECKING:  # every import is felt on a small device
    from pathlib import Path

    from .golden import Golden

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder that holds a model in several formats and can prove it."""

    path: Path
    manifest: Manifest

    @classmethod
    def read(cls, path: Path) -> Bundle:
        """Read the manifest; nothing else is opened.

        Raises:
            MissingFileError: There is nothing at ``path``.
            FormatError: It is not a bundle.
            StorageError: It cannot be read.
        """
        file = path / MANIFEST
        with _reading(path):
            if not path.exists():
                raise MissingFileError(f"no such bundle: {path}", remedy="check the path")
            if not file.is_file():
                raise FormatError(
                    f"{path} is not a bundle: it has no {MANIFEST}",
                    remedy="make one: edgeport export MODEL -o NAME.edge",
                )
            return cls(path, Manifest.loads(file.read_bytes(), str(file)))

    def checked(self, stored: StoredFile) -> Path:
        """Return the path of a file whose size and hash are right.

        Raises:
            MissingFileError: The file is not there.
            IntegrityError: It is not the file that was packed.
        """
        import hashlib  # loads OpenSSL: 2 MB

        path = self._locate(stored)
        with _reading(path), path.open("rb") as file:
            same = path.stat().st_size == stored.size_bytes and (
                hashlib.file_digest(file, "sha256").hexdigest() == stored.sha256
            )
        if not same:
            raise _not_what_was_packed(path)
        return path

    def checked_artefact(self, artefact: Artefact) -> Path:
        """Return the path of an artefact, all of whose files are right: hand it to an engine.

        Raises:
            MissingFileError: A file is not there.
            IntegrityError: A file is not the one that was packed.
            FormatError: An external file is a link, or is read without being listed.
        """
        path = self.checked(artefact.stored)
        for stored in artefact.external:
            _refuse_links(self.checked(stored))
        if artefact.format == "onnx":
            _refuse_unlisted(path, artefact)
        return path

    def check_files(self) -> None:
        """Check every file: its size and its hash, and what ``checked_artefact`` does.

        Raises:
            MissingFileError: A file is not there.
            IntegrityError: A file is not the one that was packed.
            FormatError: An external file is a link, or is read without being listed.
        """
        for artefact in self.manifest.artefacts:
            self.checked_artefact(artefact)
        self.checked(self.manifest.golden)

    def golden(self) -> tuple[Golden, ...]:
        """Read the golden samples.

        Raises:
            MissingFileError: Their file is not there.
            IntegrityError: It is not the file that was packed.
            FormatError: It does not hold the samples that the manifest names.
        """
        import hashlib

        from .golden import from_safetensors

        stored, signature = self.manifest.golden, self.manifest.signature
        path = self._locate(stored)
        with _reading(path):
            data = path.read_bytes()
        # The very bytes that are used are hashed: a file that is read twice can change between.
        if len(data) != stored.size_bytes or hashlib.sha256(data).hexdigest() != stored.sha256:
            raise _not_what_was_packed(path)
        samples = from_safetensors(data, str(path), self.manifest.samples, self.manifest.gap)
        for sample in samples:
            for specs, found in (
                (signature.inputs, sample.inputs),
                (signature.outputs, sample.eager),
            ):
                if found.keys() != {spec.name for spec in specs}:
                    raise FormatError(
                        f"{path}: sample {sample.name!r} holds {', '.join(found) or 'nothing'}, "
                        f"the signature names {', '.join(spec.name for spec in specs)}",
                        remedy="export the model again",
                    )
        return samples

    def artefact(self, name: str) -> Artefact:
        """The artefact that a backend opens.

        Raises:
            UsageError: There is no such backend, or the bundle holds nothing for it.
        """
        wanted = backend(name).format
        for artefact in self.manifest.artefacts:
            if artefact.format == wanted:
                return artefact
        others = ", ".join(self.backends) or "none"
        raise UsageError(
            f"{self.path} holds no {wanted} artefact for backend {name!r}",
            remedy=f"backends that fit this bundle: {others}; or export it with --format {wanted}",
        )

    @property
    def backends(self) -> tuple[str, ...]:
        """Names of the backends that open an artefact of this bundle, usable here or not."""
        held = {artefact.format for artefact in self.manifest.artefacts}
        return tuple(name for name, entry in BACKENDS.items() if entry.format in held)

    def open(self, name: str, options: Options | None = None) -> Session:
        """Open the artefact for a backend, once its hash is checked.

        Raises:
            UsageError: There is no such backend, or the bundle holds nothing for it.
            BackendMissingError: The backend's library is not installed.
            MissingFileError: A file of the artefact is not there.
            IntegrityError: A file of the artefact is not the one that was packed.
            FormatError: An external file is a link, or is read without being listed.
            ContractError: The artefact does not declare the bundle's signature.
            EngineError: The engine refused the file.
        """
        path = self.checked_artefact(self.artefact(name))
        asked = replace(options or Options(), signature=self.manifest.signature)
        return open_artefact(path, name, asked)

    def _locate(self, stored: StoredFile) -> Path:
        path = self.path / stored.file
        with _reading(path):
            if not path.is_file():  # a loop of links neither, and resolve raises at one
                raise MissingFileError(f"{path} is missing", remedy="copy the whole bundle again")
            if not path.resolve().is_relative_to(self.path.resolve()):
                raise FormatError(
                    f"{stored.file} leads out of the bundle {self.path}",
                    remedy="don't use this bundle",
                )
        return path


def _refuse_links(path: Path) -> None:
    """ONNX Runtime follows both kinds of link, so a file that others can write passes for ours."""
    import stat

    with _reading(path):
        found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise FormatError(
            f"{path} is a link, and an engine would read through it",
            remedy=f"put a copy in its place: cp {path.name} copy && mv copy {path.name}",
        )


def _refuse_unlisted(path: Path, artefact: Artefact) -> None:
    from .external import external_files

    with _reading(path):
        named = external_files(path)
    folder = artefact.stored.file.rpartition("/")[0]
    listed = {stored.file for stored in artefact.external}
    for name in sorted(named):
        if (f"{folder}/{name}" if folder else name) not in listed:
            raise FormatError(
                f"{path} reads {name!r}, which the manifest does not list, so no hash covers it",
                remedy="export the model again; don't use this bundle",
            )


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except EdgeportError:  # some of them are OSErrors
        raise
    except OSError as e:  # no permission, a broken disk
        raise StorageError(
            f"cannot read {path}: {e.strerror or e}", remedy="check its permissions, and the disk"
        ) from e


def open_session(
    path: str | Path, backend: str = "ort-cpu", *, threads: int | None = None
) -> Session:
    """Open a bundle, or a bare ``.onnx`` or ``.ts`` file. Exported as ``edgeport.runtimes.open``.

    Args:
        path: The bundle or file. A bare file is trusted as it is: nothing says what it should be.
        backend: Which engine: ``"ort-cpu"``, ``"libtorch"``, ``"torch"``.
        threads: Threads inside one operator; ``None`` for the CPUs this process may use.

    Raises:
        MissingFileError: There is nothing at ``path``.
        FormatError: It is neither a bundle nor an artefact.
        UsageError: The backend does not exist or does not open this artefact.
        BackendMissingError: The backend's library is not installed.
        IntegrityError: The artefact is not the file that was packed.
        ContractError: The engine does not do what was asked.
        EngineError: The engine refused the file.
    """
    from pathlib import Path

    path, options = Path(path), Options(threads=threads)
    if path.suffix not in FORMATS.values() or path.is_dir():
        return Bundle.read(path).open(backend, options)
    wanted = FORMATS[BACKENDS[backend].format] if backend in BACKENDS else None
    if wanted is not None and path.suffix != wanted:
        raise UsageError(
            f"backend {backend!r} opens {wanted} files, not {path.name}",
            remedy=f"pass backend={_opener_of(path.suffix)!r}",
        )
    if path.suffix == ".pt2":
        raise UsageError(
            f"{path} is a bare .pt2 file, and loading one can run code that is hidden in it",
            remedy="open it from a bundle, where its hash is known",
        )
    return open_artefact(path, backend, options)


def _opener_of(suffix: str) -> str:
    return next(name for name, entry in BACKENDS.items() if FORMATS[entry.format] == suffix)


def _not_what_was_packed(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} is not the file that was packed: its size or sha256 differs",
        remedy="copy the bundle again, or export the model again; don't run this file",
    )
