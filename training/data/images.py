"""A folder of images, one folder inside it per class."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from edgeport.runtimes.errors import MissingFileError, SourceError
from edgeport.runtimes.images import decoded, images_in, is_image_file, opened, seen_size

from .examples import Array, ragged, together

LARGEST_DECODED: Final = 2**30
"""Bytes of decoded images that are kept in memory. Not a share of it: a run keeps the same held-out
images on every machine."""


def image_files(folder: Path) -> tuple[list[Path], list[int], list[str]]:
    """Find images: ``folder/CLASS/*.png``, in the order of their names.

    Returns:
        Files, the class of each, and the names of the classes.

    Raises:
        MissingFileError: There is no such folder.
        SourceError: It has no folders of images, or only one; one is empty, or has others in it.
    """
    if not folder.is_dir():
        raise MissingFileError(f"no such folder: {folder}", remedy="check the path of --data")
    places = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    found = {place: images_in(place) for place in places}
    for place, files in found.items():
        inside = next((file.parent for file in files if file.parent != place), None)
        if inside is not None:
            raise SourceError(
                f"{place} is a class, and has a folder of images, {inside.relative_to(place)}",
                remedy=f"lay images out as {folder}/CLASS/IMAGE.png",
            )
    empty = [place for place, files in found.items() if not files]
    if len(found) - len(empty) < 2:
        count = len(found) - len(empty)
        raise SourceError(
            f"{folder} has {count} folder{'s' * (count != 1)} with images, expected one per "
            "class, at least 2",
            remedy=f"lay images out as {folder}/CLASS/IMAGE.png",
        )
    if empty:
        raise SourceError(
            f"{empty[0]} is a class without images",
            remedy="remove it, or put images of a kind that is read there, as .png",
        )
    every = [file for files in found.values() for file in files]
    labels = [number for number, files in enumerate(found.values()) for _ in files]
    return every, labels, [place.name for place in found]


def own_parts(folder: Path) -> list[Path]:
    """``train`` and ``val`` of a folder, else ``train`` and ``test``; empty if it has others.

    They are no parts but classes if ``train`` has images itself.
    """
    if not folder.is_dir():
        return []
    places = {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
    if not {"train"} < places <= {"train", "val", "test"}:
        return []
    if any(map(is_image_file, (folder / "train").iterdir())):
        return []
    return [folder / "train", folder / ("val" if "val" in places else "test")]


def read_image(path: Path) -> Array:
    """Decode an image: (height, width, 3) uint8, RGB; EXIF turns are applied.

    Raises:
        FormatError: It is not an image that Pillow reads, or has more than 8 bits.
        BackendMissingError: Pillow is not installed.
    """
    with opened(path) as image:
        return decoded(image, "RGB")


class ImageFile:
    """An image that is decoded whenever its pixels are looked at, and not kept.

    Args:
        path: Of the file.

    Attributes:
        shape: (height, width, 3): as ``seen_size`` of its header, until it was decoded.

    Raises:
        FormatError, BackendMissingError: As ``read_image``.
    """

    __slots__ = ("path", "shape")

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path) as image:
            self.shape: tuple[int, ...] = (*seen_size(image), 3)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> Array:
        found = read_image(self.path)
        self.shape = found.shape
        return found


def read_images(files: Sequence[Path]) -> Array:
    """Images: (n, height, width, 3) uint8 if they have one size, else (n,) of arrays.

    Where all of them would take more than ``LARGEST_DECODED`` they are (n,) of ``ImageFile``:
    photos are many times as large as their files. One that is broken behind its header is then
    found when it is looked at, which is when the data are split: their fingerprint is of pixels.

    Raises:
        FormatError, BackendMissingError: As ``read_image``.
    """
    images = [ImageFile(file) for file in files]
    if sum(math.prod(image.shape) for image in images) > LARGEST_DECODED:
        return ragged(images)
    return together([np.asarray(image) for image in images])
