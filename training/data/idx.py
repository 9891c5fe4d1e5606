"""MNIST and what has its form: four idx files, as ``torchvision.datasets.MNIST(root)`` keeps them.

The form is that of http://yann.lecun.com/exdb/mnist: 0, 0, 8 for bytes, the number of axes, the
length of each as a big-endian int32, then the bytes.
"""

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np

from edgeport.runtimes.errors import FormatError, MissingFileError

from .examples import Array, DataSet, Labelled
from .splitting import split_before

_IMAGES: Final = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
_LABELS: Final = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
_FILES: Final = (*_IMAGES.values(), *_LABELS.values())

_DEFLATED: Final = 1032  # times a file, at most: https://zlib.net/zlib_tech.html

_CLASSES: Final = {
    "FashionMNIST": (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ),
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}  # fmt: skip  # which data they are, only the folder tells


def is_idx_set(folder: Path) -> bool:
    """Whether a folder, or ``raw`` in it, has one of the four files."""
    return any(_found(_place(folder), name) for name in _FILES)


def read_idx_set(folder: Path) -> DataSet:
    """Read ``train-images-idx3-ubyte`` and the other three, as they are or ``.gz``.

    ``image`` is (n, height, width) uint8, 0 for background. The ``t10k`` files are held out. The
    data are named as the folder: ``FashionMNIST`` and ``KMNIST`` have names of classes.

    Args:
        folder: That of the files, or the one with ``raw`` in it.

    Raises:
        MissingFileError: One of the four is missing.
        FormatError: One is damaged, images and labels differ in number, or there is a label for
            which the data of that name have no class.
        SourceError: There is one class only.
    """
    place = _place(folder)
    missing = [name for name in _FILES if not _found(place, name)]
    if missing:
        raise MissingFileError(
            f"{place} lacks {', '.join(missing)}",
            remedy=f"it needs {', '.join(_FILES)}, each as it is or .gz: "
            "torchvision.datasets.MNIST(root, download=True) writes them to root/MNIST/raw",
        )
    train, test = (_part(place, which) for which in ("train", "test"))
    if train.inputs["image"].shape[1:] != test.inputs["image"].shape[1:]:
        raise FormatError(
            f"{place} has {_size(train)} images to train on and {_size(test)} to test on",
            remedy="give the four files of one data set",
        )
    name = (place.parent if place.name == "raw" else place).resolve().name
    classes = _CLASSES.get(name, ())
    most = max(int(part.labels.max()) for part in (train, test))
    if classes and most >= len(classes):
        raise FormatError(
            f"{place} has the label {most}, and {name} has {len(classes)} classes",
            remedy=f"give the four files of {name}, or name the folder otherwise",
        )
    return split_before(name, train, test, classes=classes)


def _part(place: Path, which: str) -> Labelled:
    images, labels = _found(place, _IMAGES[which]), _found(place, _LABELS[which])
    pixels, classes = read_idx(cast("Path", images), 3), read_idx(cast("Path", labels), 1)
    if len(pixels) != len(classes):
        raise FormatError(
            f"{images} has {len(pixels):,} images, {labels} has {len(classes):,} labels",
            remedy="give the files of one data set",
        )
    return Labelled({"image": pixels}, classes.astype(np.int64))


def read_idx(path: Path, axes: int) -> Array:
    """Read an idx file of bytes: uint8 with this many axes.

    Raises:
        FormatError: It is none, or has other axes; it is shorter or longer than it says.
    """
    size = path.stat().st_size
    compressed = path.suffix == ".gz"
    try:
        with gzip.open(path) if compressed else path.open("rb") as opened:
            file = cast("BinaryIO", opened)
            header = file.read(4 + 4 * axes)
            if header[:4] != bytes([0, 0, 8, axes]) or len(header) < 4 + 4 * axes:
                raise _damaged(
                    path, f"it starts with {header[:4].hex()}, expected 000008{axes:02x}"
                )
            shape = [int(length) for length in np.frombuffer(header, ">u4", axes, 4)]
            wanted = math.prod(shape)
            there = size * _DEFLATED if compressed else size
            found = file.read(wanted + 1) if wanted < there else b""  # no memory for a lie
    except (OSError, EOFError, zlib.error) as e:
        raise _damaged(path, str(e)) from e
    if len(found) != wanted:
        raise _damaged(path, f"it has not the {wanted:,} bytes of {shape} after its header")
    return np.frombuffer(found, np.uint8).reshape(shape)


def _damaged(path: Path, reason: str) -> FormatError:
    return FormatError(
        f"{path} is no idx file of bytes: {reason}", remedy="download it again, and unpack it whole"
    )


def _place(folder: Path) -> Path:
    return folder / "raw" if (folder / "raw").is_dir() else folder


def _found(place: Path, name: str) -> Path | None:
    """The file, as it is or compressed."""
    return next((p for p in (place / name, place / f"{name}.gz") if p.is_file()), None)


def _size(part: Labelled) -> str:
    return "x".join(map(str, part.inputs["image"].shape[1:]))
