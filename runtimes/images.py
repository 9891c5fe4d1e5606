"""Inputs that are images as a decoder gives them: uint8, with colours last; and files of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NoReturn

import numpy as np

from .inputs import Array
from .signature import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image


_SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp", ".tif", ".tiff"}
)


def is_image_file(path: Path) -> bool:
    """Whether a file is an image by its name; what is hidden, as macOS's ``._cat.png``, is none."""
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """The images of a folder and of the folders in it that are not hidden, in order.

    Raises:
        OSError: A folder cannot be read: nothing is left out in silence.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raised):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [path for name in names if is_image_file(path := Path(place, name))]
    return sorted(found)


def _raised(error: OSError) -> NoReturn:
    raise error


def is_image(spec: TensorSpec) -> bool:
    """Whether an input is an image as it is decoded.

    That is uint8 (batch, height, width, 3), or (batch, height, width, 1) or (batch, height, width)
    if it is grey.
    """
    grey, planes = len(spec.shape) == 3, len(spec.shape) == 4 and spec.shape[3] in (1, 3)
    return spec.dtype == "uint8" and (grey or planes)


def pixels(image: Image, spec: TensorSpec) -> Array:
    """Decode one row of an input that ``is_image``; EXIF turns are applied.

    Args:
        image: As Pillow opened it; decoders of damaged files raise what they like.
        spec: Of the input.

    Raises:
        ValueError: As ``decoded``.
    """
    found = decoded(image, "RGB" if spec.shape[3:] == (3,) else "L")
    return found[..., None] if spec.shape[3:] == (1,) else found


def seen_size(image: Image) -> tuple[int, int]:
    """Height and width as ``decoded`` gives them, from the header alone.

    Args:
        image: As Pillow opened it: a TIFF is turned already. What turns a PNG may follow its
            pixels, and is not looked for.
    """
    width, height = image.size
    turned = "exif" in image.info and image.getexif().get(0x0112) in (5, 6, 7, 8)
    return (width, height) if turned else (height, width)


def decoded(image: Image, mode: Literal["RGB", "L"]) -> Array:
    """Decode an image: (height, width, 3) or (height, width) uint8; EXIF turns are applied.

    Args:
        image: As Pillow opened it; decoders of damaged files raise what they like.
        mode: With colours, or grey.

    Raises:
        ValueError: Its pixels have more than 8 bits. Pillow would make all above 255 white.
    """
    from PIL import ImageOps

    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
    return np.array(ImageOps.exif_transpose(image).convert(mode))
