"""One way in: a bundled name, a ``.csv``, an ``.npz`` or a folder of images."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from edgeport.runtimes.errors import MissingFileError, SourceError, UsageError

from .arrays import read_npz
from .bundled import BUNDLED, bundled_table, digits
from .examples import DataSet, Labelled, Split, ragged
from .images import image_files, read_images
from .splitting import split
from .table import Table, dataset, read_csv


def open_data(
    where: str,
    *,
    target: str | None = None,
    categorical: Collection[str] = (),
    drop: Collection[str] = (),
    how: Split | None = None,
) -> DataSet:
    """Read and split data.

    Args:
        where: One of ``BUNDLED``, a ``.csv`` or ``.npz`` file, or a folder of images: one folder
            in it per class. A file of a bundled name is written ``./digits``.
        target: Column or array to predict; needed for files, ``label`` for images.
        categorical: Columns of a table to read as categories.
        drop: Columns of a table to leave out.
        how: As in ``split``.

    Raises:
        EdgeportError: They cannot be read, or nothing can be learned from them.
    """
    path = Path(where)
    tabular = path.suffix.lower() == ".csv" or (where in BUNDLED and where != "digits")
    if (categorical or drop) and not tabular:
        raise UsageError(f"{where} has no columns", remedy="leave --categorical and --drop out")
    if where == "digits":
        return digits()
    if where in BUNDLED:
        return _table(bundled_table(where), target or "target", drop, how)
    if path.suffix.lower() == ".csv":
        return _table(read_csv(path, categorical=categorical), _needed(target, path), drop, how)
    if path.suffix.lower() == ".npz":
        return read_npz(path, _needed(target, path), how=how)
    if path.is_dir():
        return image_folder(path, how)
    if path.exists():
        raise UsageError(
            f"{path} is neither a .csv, nor an .npz, nor a folder of images",
            remedy="save it as one of them",
        )
    raise MissingFileError(
        f"no such data: {where}", remedy=f"give a file, a folder, or one of {', '.join(BUNDLED)}"
    )


def image_folder(folder: Path, how: Split | None = None) -> DataSet:
    """Images and their classes: ``image`` is uint8, RGB.

    (n, height, width, 3) if all are of one size, else an array of (height, width, 3) arrays.

    Raises:
        EdgeportError: As ``image_files`` and ``read_image``.
    """
    files, labels, classes = image_files(folder)
    images = read_images(files)
    one_size = len({image.shape for image in images}) == 1
    stacked = np.stack(images) if one_size else ragged(images)
    size = "x".join(map(str, images[0].shape[:2])) if one_size else "several sizes"
    whole = Labelled({"image": stacked}, np.asarray(labels, np.int64))
    return split(
        folder.name, whole, how=how, schema={"image": f"uint8 RGB, {size}"}, classes=classes
    )


def _table(table: Table, target: str, drop: Collection[str], how: Split | None) -> DataSet:
    return dataset(table, target, drop=drop, how=how)


def _needed(target: str | None, path: Path) -> str:
    if target is None:
        raise UsageError(f"what is to be predicted from {path}?", remedy="name it with --target")
    return target


def one_size(data: DataSet) -> None:
    """Refuse images of several sizes.

    Raises:
        SourceError: They are.
    """
    for name, array in data.train.inputs.items():
        if array.dtype == object:
            raise SourceError(
                f"{name!r} in {data.origin.name} has images of several sizes",
                remedy="train vision:resnet18, which resizes them in the artefact, or bring them "
                "to one size",
            )
