"""A folder of images, one folder inside it per class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from edgeport.runtimes.errors import (
    BackendMissingError,
    FormatError,
    MissingFileError,
    SourceError,
)
from edgeport.runtimes.images import decoded

from .examples import Array

SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp", ".tif", ".tiff"}
)


def image_files(folder: Path) -> tuple[list[Path], list[int], list[str]]:
    """Find images: ``folder/CLASS/*.png``, in the order of their names.

    Returns:
        Files, the class of each, and the names of the classes.

    Raises:
        MissingFileError: There is no such folder.
        SourceError: It has no folders of images, or only one.
    """
    if not folder.is_dir():
        raise MissingFileError(f"no such folder: {folder}", remedy="check the path of --data")
    found = {
        place.name: sorted(f for f in place.iterdir() if f.suffix.lower() in SUFFIXES)
        for place in sorted(folder.iterdir())
        if place.is_dir() and not place.name.startswith(".")
    }
    found = {name: files for name, files in found.items() if files}
    if len(found) < 2:
        raise SourceError(
            f"{folder} has {len(found)} folder{'s' * (len(found) != 1)} with images, expected one "
            "per class, at least 2",
            remedy=f"lay images out as {folder}/CLASS/IMAGE.png",
        )
    classes = list(found)
    files = [file for name in classes for file in found[name]]
    labels = [number for number, name in enumerate(classes) for _ in found[name]]
    return files, labels, classes


def own_parts(folder: Path) -> list[Path]:
    """``train`` and ``val`` of a folder, else ``train`` and ``test``; empty if it has others.

    They are no parts but classes if ``train`` has images itself.
    """
    if not folder.is_dir():
        return []
    places = {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if not {"train"} < places <= {"train", "val", "test"}:
        return []
    if any(file.suffix.lower() in SUFFIXES for file in (folder / "train").iterdir()):
        return []
    return [folder / "train", folder / ("val" if "val" in places else "test")]


def read_image(path: Path) -> Array:
    """Decode an image: (height, width, 3) uint8, RGB; EXIF turns are applied.

    Raises:
        FormatError: It is not an image that Pillow reads, or has more than 8 bits.
        BackendMissingError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"images are decoded by Pillow, and {e.name!r} is not installed",
            remedy="pip install 'edgeport[vision]'",
        ) from e
    try:
        with Image.open(path) as image:
            return decoded(image, "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise FormatError(
            f"{path} cannot be read as an image: {e}",
            remedy="remove it, or save it again as PNG of 8 bits",
        ) from e


def read_images(files: Sequence[Path]) -> list[Array]:
    """Decode images of any sizes."""
    return [read_image(file) for file in files]
