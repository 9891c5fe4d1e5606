"""CIFAR-10 and CIFAR-100, unpacked, as ``torchvision.datasets.CIFAR10(root)`` keeps them.

Their files are pickles, which are read without unpickling: no code of a file runs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgeport.runtimes.errors import FormatError, MissingFileError

from .examples import Array, DataSet, Labelled
from .plain_pickle import byte_array, read_plain
from .splitting import split_before

_SIDE: Final = 32


@dataclass(frozen=True, slots=True)
class _Form:
    """Which files there are, and what their parts are called."""

    name: str
    train: tuple[str, ...]
    test: str
    names: str
    labels: str
    label_names: str

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.names)


_FORMS: Final = (
    _Form(
        "CIFAR10", tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch",
        "batches.meta", "labels", "label_names",
    ),
    _Form("CIFAR100", ("train",), "test", "meta", "fine_labels", "fine_label_names"),
)  # fmt: skip


def is_cifar(folder: Path) -> bool:
    """Whether a folder has at least two of the files."""
    return _form(folder) is not None


def read_cifar(folder: Path) -> DataSet:
    """Read ``cifar-10-batches-py`` or ``cifar-100-python``.

    ``image`` is (n, 32, 32, 3) uint8, RGB. The test file is held out.

    Args:
        folder: That of the files, for which ``is_cifar``.

    Raises:
        MissingFileError: A file is missing.
        FormatError: One is damaged, or holds anything but images, labels and names.
        SourceError: There is one class only.
    """
    form = _form(folder) or _FORMS[0]
    missing = [name for name in form.files if not (folder / name).is_file()]
    if missing:
        raise MissingFileError(
            f"{folder} lacks {', '.join(missing)}",
            remedy=f"it needs {', '.join(form.files)}: "
            f"torchvision.datasets.{form.name}(root, download=True) writes them",
        )
    names = _names(folder / form.names, form)
    batches = [_batch(folder / file, form, len(names)) for file in form.train]
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    train = Labelled({"image": images}, labels)
    images, labels = _batch(folder / form.test, form, len(names))
    return split_before(form.name, train, Labelled({"image": images}, labels), classes=names)


def _form(folder: Path) -> _Form | None:
    for form in _FORMS:
        if sum((folder / name).is_file() for name in form.files) > 1:
            return form
    return None


def _names(path: Path, form: _Form) -> list[str]:
    names = _values(path, form.label_names)[form.label_names]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _damaged(path, f"its {form.label_names} are no names")
    return names


def _batch(path: Path, form: _Form, classes: int) -> tuple[Array, Array]:
    """Images, (n, 32, 32, 3) uint8, and labels, (n,) int64."""
    values = _values(path, "data", form.labels)
    try:
        pixels = byte_array(values["data"])
    except ValueError as e:
        raise _damaged(path, f"its data: {e}") from e
    labels = values[form.labels]
    if not isinstance(labels, list) or pixels.shape != (len(labels), 3 * _SIDE * _SIDE):
        raise _damaged(path, f"its data are {list(pixels.shape)}, expected [labels, 3072]")
    wrong = [label for label in labels if type(label) is not int or not 0 <= label < classes]
    if wrong:
        raise _damaged(path, f"a label is {wrong[0]!r}, expected 0 to {classes - 1}")
    image = pixels.reshape(-1, 3, _SIDE, _SIDE).transpose(
        0, 2, 3, 1
    )  # (n, C, H, W) -> (n, H, W, C)
    return np.ascontiguousarray(image), np.asarray(labels, np.int64)


def _values(path: Path, *keys: str) -> dict[str, Any]:
    try:
        found = read_plain(path.read_bytes())
    except ValueError as e:
        raise _damaged(path, str(e)) from e
    if not isinstance(found, dict) or not all(key in found for key in keys):
        raise _damaged(path, f"it has not {' and '.join(keys)}")
    return found


def _damaged(path: Path, reason: str) -> FormatError:
    return FormatError(
        f"{path} is not as CIFAR's authors wrote it: {reason}",
        remedy="unpack the downloaded archive again; other images: a folder with one folder per "
        "class",
    )
