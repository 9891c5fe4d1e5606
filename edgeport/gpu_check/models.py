"""The bundles to check: carried here, or exported before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeport.runtimes import Bundle
from edgeport.runtimes.bundles.bundle import read_manifest
from edgeport.runtimes.errors import EdgeportError, MissingFileError


@dataclass(frozen=True, slots=True)
class Model:
    """A bundle.

    Attributes:
        name: Of the bundle, without ``.edge``.
        backends: That its artefacts fit.
        size_bytes: Of its largest artefact.
        digest: SHA-256 of its manifest, which holds the hashes of all its files.
        narrow: Whether an artefact computes in less than the module does.
    """

    name: str
    path: Path
    backends: tuple[str, ...]
    size_bytes: int
    digest: str
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class Unread:
    """Something that is named like a bundle and cannot be read."""

    name: str
    reason: str


def find(folder: Path) -> tuple[list[Model], list[Unread]]:
    """Read every bundle of a folder, smallest first: so much is proved early.

    Raises:
        MissingFileError: There is no folder, or no bundle in it.
    """
    paths = sorted(folder.glob("*.edge")) if folder.is_dir() else []
    if not paths:
        raise MissingFileError(
            f"{folder} holds no bundles (NAME.edge)",
            remedy="export models into it with edgeport export, or the zoo: "
            "python -m scripts.export_zoo FOLDER, in a checkout",
        )
    models: list[Model] = []
    unread: list[Unread] = []
    for path in paths:
        try:
            models.append(_model(path))
        except EdgeportError as e:
            unread.append(Unread(path.stem, e.problem))
    return sorted(models, key=lambda model: (model.size_bytes, model.name)), unread


def spread(models: Sequence[Model]) -> list[Model]:
    """The smallest, the one in the middle and the largest: where overheads and arithmetic show.

    Of those that most backends take, so that these stand beside one another.
    """
    most = max((len(model.backends) for model in models), default=0)
    models = [model for model in models if len(model.backends) == most]
    places = dict.fromkeys((0, len(models) // 2, len(models) - 1)) if models else {}
    return [models[place] for place in places]


def by_interest(models: Sequence[Model]) -> list[Model]:
    """Those first of which a short time should tell: each size, and the narrower ones."""
    narrow = (model for model in models if model.narrow)
    return list(dict.fromkeys([*spread(models), *narrow, *models]))


def _model(path: Path) -> Model:
    bundle = Bundle.read(path)
    return Model(
        path.stem,
        path,
        bundle.backends,
        max((artefact.stored.size_bytes for artefact in bundle.manifest.artefacts), default=0),
        hashlib.sha256(read_manifest(bundle.files, path)).hexdigest(),
        any(bundle.manifest.reduced_precision(each) for each in bundle.manifest.artefacts),
    )
