"""Read a bundle. Nothing in it is used before its size and hash are those of the manifest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.errors import FormatError, UsageError
from edgeport.runtimes.session import (
    BACKENDS,
    FORMATS,
    Options,
    Session,
    backend,
    default_backend,
    is_expected,
    open_artefact,
)
from edgeport.runtimes.values import dataclass, field, replace

from .container import Container, Folder, container, reading
from .manifest import MANIFEST, Artefact, Manifest

if TYPE_CHECKING:  # every import is felt on a small device
    from pathlib import Path

    from .golden import Golden

LARGEST_MANIFEST_BYTES: Final = 2**24


@dataclass(frozen=True, slots=True)
class Bundle:
    """A folder or a zip file that holds a model in several formats and can prove it.

    Attributes:
        vouched: Whether a key that is trusted signed the manifest that was read.
        copies: By format: private copies that were made already, for a child process.
    """

    path: Path
    manifest: Manifest
    vouched: bool = False
    copies: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path, *, trusted: Sequence[Path] | None = None) -> Bundle:
        """Read the manifest, and the signature if one is demanded; nothing else is opened.

        Args:
            path: The folder or zip file.
            trusted: Files of public keys, one of which must have signed; ``None`` for those that
                ``EDGEPORT_TRUSTED_KEYS`` names, or for no demand if it names none.

        Raises:
            MissingFileError: There is nothing at ``path``, or no file of a key.
            FormatError: It is not a bundle.
            StorageError: It cannot be read.
            SignatureError: A signature is demanded, and is missing or wrong.
            BackendMissingError: One is demanded, and ``cryptography`` is not installed.
        """
        from pathlib import Path

        path = Path(path)
        held, data, manifest = opened(path)
        return cls(path, manifest, vouched=_is_vouched(held, path, data, trusted))

    @classmethod
    def peek(cls, path: str | Path) -> Bundle:
        """Read the manifest whoever signed it: to look at it, not to open anything.

        Raises:
            MissingFileError: There is nothing at ``path``.
            FormatError: It is not a bundle.
            StorageError: It cannot be read.
        """
        from pathlib import Path

        path = Path(path)
        return cls(path, opened(path)[2])

    @property
    def files(self) -> Container:
        """What holds the files."""
        return container(self.path)

    def check_files(self) -> None:
        """Check every file: its size, its hash, and what an engine would have to parse.

        Raises:
            MissingFileError: A file is not there.
            IntegrityError: A file is not the one that was packed.
            FormatError: An external file is a link, or is read without being listed; or an
                artefact is not what it should be, or too large to be parsed safely.
            EngineError: There is not enough memory.
        """
        from edgeport.runtimes.safety.private_copy import check

        held = self.files
        for artefact in self.manifest.artefacts:
            with self._checked(artefact, is_copied=False):
                pass
        for stored in (self.manifest.golden, *self.manifest.evidence.values()):
            check(held, stored)

    def golden(self) -> tuple[Golden, ...]:
        """Read the golden samples.

        Raises:
            MissingFileError: Their file is not there.
            IntegrityError: It is not the file that was packed.
            FormatError: It does not hold the samples that the manifest names.
        """
        from edgeport.runtimes.safety.private_copy import read

        from .golden import from_safetensors

        stored, signature, held = self.manifest.golden, self.manifest.signature, self.files
        path = held.place(stored.file)
        data = read(held, stored)
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
        outputs = [spec.name for spec in signature.outputs]
        return tuple(
            replace(sample, eager={name: sample.eager[name] for name in outputs})
            for sample in samples  # a file keeps no order
        )

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

    def backends_on(self, device: str | None) -> tuple[str, ...]:
        """Those of ``backends`` that can be told to run on a device.

        Args:
            device: ``None`` for those that are to be tried if nobody named any.

        Raises:
            UsageError: There are none.
        """
        if device is None:
            return tuple(filter(is_expected, self.backends))
        found = tuple(name for name in self.backends if BACKENDS[name].runs_on(device))
        if self.backends and not found:
            raise UsageError(
                f"no backend of {self.path} runs on {device}: it holds artefacts for "
                f"{', '.join(self.backends)}",
                remedy="leave the device out, or export the model in another format",
            )
        return found

    def open(self, name: str, options: Options | None = None) -> Session:
        """Open the artefact for a backend: the very bytes whose hash was checked.

        Raises:
            UsageError: There is no such backend, it has no such device, or the bundle holds nothing
                for it.
            BackendMissingError: The backend's library is not installed.
            MissingFileError: A file of the artefact is not there.
            IntegrityError: A file of the artefact is not the one that was packed.
            FormatError: An external file is a link, or is read without being listed; or the
                artefact is not what it should be, or too large to be parsed safely.
            ContractError: The artefact does not declare the bundle's signature.
            EngineError: The engine refused the file.
        """
        artefact = self.artefact(name)
        with self._opened(artefact) as path:
            asked = replace(
                options or Options(),
                signature=self.manifest.signature,
                name=str(self.path / artefact.stored.file),
            )
            return open_artefact(path, name, asked)

    def _opened(self, artefact: Artefact) -> contextlib.AbstractContextManager[Path]:
        """What an engine opens: ONNX Runtime has read all of it then, others may map it."""
        if artefact.format == "onnx" and artefact.format not in self.copies:
            return self._checked(artefact, is_copied=False)
        return self.private(artefact)

    @contextlib.contextmanager
    def private(self, artefact: Artefact) -> Iterator[Path]:
        """A copy of an artefact that nobody can change, and that an engine may be shown.

        It is unpacked here if it has to be, because a child process may not write.

        Raises:
            MissingFileError: A file of the artefact is not there.
            IntegrityError: A file is not the one that was packed.
            FormatError: An external file is a link, or is read without being listed; or the
                artefact is not what it should be, or too large to be parsed safely.
            EngineError: There is not enough memory.
            StorageError: A file cannot be read or copied.
        """
        if artefact.format in self.copies:
            yield self.copies[artefact.format]
            return
        with self._checked(artefact, is_copied=True) as path:
            if artefact.format != "aotinductor":
                yield path
                return
            from edgeport.runtimes.safety.aoti_package import unpacked

            with unpacked(path, str(self.files.place(artefact.stored.file))) as library:
                yield library

    @contextlib.contextmanager
    def _checked(self, artefact: Artefact, *, is_copied: bool) -> Iterator[Path]:
        """As it was packed, and so for the whole block; a copy for as long as anything uses it."""
        from edgeport.runtimes.safety.model_file import check_model
        from edgeport.runtimes.safety.private_copy import private_copy, steady

        held, hold = self.files, private_copy if is_copied else steady
        with hold(held, artefact.files) as path:
            if isinstance(held, Folder):
                for stored in artefact.external:
                    _refuse_links(held.place(stored.file))
            names = [stored.file for stored in artefact.files]
            check_model(path, artefact.format, names, str(held.place(names[0])))
            yield path


def opened(path: Path) -> tuple[Container, bytes, Manifest]:
    """What holds a bundle, and its manifest: as it lies there, and as it is read.

    Raises:
        EdgeportError: As ``Bundle.peek``.
    """
    held = container(path)
    data = read_manifest(held, path)
    return held, data, Manifest.loads(data, str(held.place(MANIFEST)))


def read_manifest(held: Container, path: Path) -> bytes:
    """The bytes of a manifest.

    Args:
        held: What holds it.
        path: What to call that in an error.

    Raises:
        FormatError: There is none, or it is too large.
        StorageError: It cannot be read.
    """
    if MANIFEST not in held:
        model = path if "run.json" in held else "MODEL"  # of edgeport train
        raise FormatError(
            f"{path} is not a bundle: it has no {MANIFEST}",
            remedy=f"make one: edgeport export {model} -o NAME.edge",
        )
    with held.open(MANIFEST) as (file, size_bytes), reading(held.place(MANIFEST)):
        if size_bytes > LARGEST_MANIFEST_BYTES:
            raise FormatError(
                f"{held.place(MANIFEST)} has {size_bytes} bytes, "
                f"at most {LARGEST_MANIFEST_BYTES} are read",
                remedy="don't use this bundle",
            )
        return file.read(size_bytes)


def _is_vouched(
    held: Container, path: Path, manifest: bytes, trusted: Sequence[Path] | None
) -> bool:
    import os

    if trusted is None and not os.environ.get("EDGEPORT_TRUSTED_KEYS"):
        return False
    from .signing import require_signature, trusted_keys

    require_signature(held, path, manifest, trusted_keys() if trusted is None else trusted)
    return True


def _refuse_links(path: Path) -> None:
    """Whoever may write to the other name of a file changes this one."""
    import stat

    with reading(path):
        found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise FormatError(
            f"{path} is a link, and an engine would read through it",
            remedy=f"put a copy in its place: cp {path.name} copy && mv copy {path.name}",
        )


def open_session(
    path: str | Path,
    backend: str | None = None,
    *,
    threads: int | None = None,
    device: str | None = None,
    gpu: GpuOptions | None = None,
) -> Session:
    """Open a bundle, or a bare file: ``.onnx`` of anybody, ``.ts`` of edgeport, an engine.

    Exported as ``edgeport.runtimes.open``.

    Args:
        path: The bundle or file. A bare file is trusted as it is: nothing says what it should be.
        backend: Which engine, by a name that ``edgeport doctor`` tells; ``None`` for ONNX Runtime
            on the device.
        threads: Threads inside one operator; ``None`` for the CPUs this process may use.
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; ``None`` for the backend's own.
        gpu: What else is asked of a GPU.

    Raises:
        MissingFileError: There is nothing at ``path``.
        FormatError: It is neither a bundle nor an artefact.
        UsageError: The backend does not exist, does not open this artefact, or has no such device.
        BackendMissingError: The backend's library is not installed.
        IntegrityError: The artefact is not the file that was packed.
        ContractError: The engine does not do what was asked.
        EngineError: The engine refused the file.
    """
    return open_labelled(path, backend, threads=threads, device=device, gpu=gpu)[0]


def open_labelled(
    path: str | Path,
    backend: str | None,
    *,
    threads: int | None,
    device: str | None,
    gpu: GpuOptions | None,
) -> tuple[Session, Mapping[str, tuple[str, ...]]]:
    """Open what ``open_session`` opens, and say which names it knows.

    Returns:
        The session; and the ``labels`` of the manifest, where the bundle has them.

    Raises:
        EdgeportError: As ``open_session``.
    """
    from pathlib import Path

    path = Path(path)
    options = Options(threads=threads, device=device, gpu=gpu or GpuOptions())
    backend = backend or default_backend(device)
    if path.suffix not in FORMATS.values() or path.is_dir():
        bundle = Bundle.read(path)
        return bundle.open(backend, options), bundle.manifest.labels
    if path.suffix in (".pt2", ".aoti"):
        raise UsageError(
            f"{path} is a bare {path.suffix} file, and loading one can run code that is hidden in "
            "it",
            remedy="open it from a bundle, where its hash is known",
        )
    wanted = FORMATS[BACKENDS[backend].format] if backend in BACKENDS else None
    if wanted is not None and path.suffix != wanted:
        raise UsageError(
            f"backend {backend!r} opens {wanted} files, not {path.name}",
            remedy=f"choose the backend {_opener_of(path.suffix)!r}",
        )
    return open_artefact(path, backend, options), {}


def _opener_of(suffix: str) -> str:
    return next(name for name, entry in BACKENDS.items() if FORMATS[entry.format] == suffix)
