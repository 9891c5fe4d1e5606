"""Inputs that are images as a decoder gives them: uint8, with colours last; and files of them."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NoReturn

import numpy as np

from .errors import BackendMissingError, FormatError
from .inputs import Array
from .signature import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image


_SUFFIXES: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".pgm", ".ppm", ".webp", ".tif", ".tiff"}
)
_ANIMATED: Final = frozenset({".gif", ".webp", ".tif", ".tiff"})


def is_image_file(path: Path) -> bool:
    """Whether a file is an image by its name; what is hidden, as macOS's ``._cat.png``, is none."""
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """The images of a folder and of the folders in it that are not hidden, in order.

    Raises:
        OSError: A folder cannot be read: nothing is left out in silence.
    """
    return [path for path in _files_in(folder) if is_image_file(path)]


def others_in(folder: Path) -> list[Path]:
    """The other files of a folder and of the folders in it, in order; none that is hidden.

    Raises:
        OSError: As ``images_in``.
    """
    return [path for path in _files_in(folder) if not is_image_file(path)]


def is_animated(path: Path) -> bool:
    """Whether an image has several frames, of which ``decoded`` takes the first.

    Not the pictures in another size, or for the other eye, that cameras put behind a photo.

    Raises:
        FormatError, BackendMissingError: As ``opened``.
    """
    if path.suffix.lower() not in _ANIMATED:
        return False
    with opened(path) as image:
        return bool(getattr(image, "is_animated", False))


def _files_in(folder: Path) -> list[Path]:
    found: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=_raised):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
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


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Image]:
    """An image whose header is read; what goes wrong with it, in the block too, names the file.

    For one thread at a time: Pillow warns of 90 million pixels, which is a photo of today.

    Raises:
        FormatError: It is not an image that Pillow reads, or has more than 8 bits.
        BackendMissingError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            "images are decoded by Pillow, which is not installed", remedy="pip install pillow"
        ) from e
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except Image.DecompressionBombError as e:
        raise FormatError(
            f"{path} is too large: {str(e).partition(', could')[0]}", remedy="make it smaller"
        ) from e
    except (OSError, ValueError, SyntaxError) as e:
        raise FormatError(
            f"{path} cannot be read as an image: {e}",
            remedy="remove it, or save it again as PNG of 8 bits",
        ) from e


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

    Of several frames it is the first. What is transparent has the colour that it has in the file.

    Args:
        image: As Pillow opened it; decoders of damaged files raise what they like.
        mode: With colours, or grey.

    Raises:
        ValueError: Its pixels have more than 8 bits. Pillow would make all above 255 white.
    """
    from PIL import ImageOps

    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
    turned = ImageOps.exif_transpose(image)  # a copy
    turned.info.pop("transparency", None)  # neither mode has any, of which Pillow would warn
    return np.array(turned.convert(mode))
