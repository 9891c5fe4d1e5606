"""One way in: a bundled name, a table, an ``.npz``, or a folder of images, MNIST or CIFAR."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeport.runtimes.errors import MissingFileError, SourceError, UsageError
from edgeport.runtimes.formats.csv_table import TABLES
from edgeport.runtimes.images import is_image_file

from .arrays import needed, read_npz
from .bundled import BUNDLED, bundled_table, digits
from .cifar import is_cifar, read_cifar
from .examples import DataSet, Labelled, Split
from .idx import is_idx_set, read_idx_set
from .images import image_files, own_parts, read_images
from .splitting import split, split_before
from .table import dataset, read_csv


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
        where: One of ``BUNDLED``, a ``.csv``, ``.tsv`` or ``.npz`` file, or a folder: of images, as
            for ``image_folder``, or with the files of MNIST, as for ``read_idx_set``, or of CIFAR,
            as for ``read_cifar``. A file of a bundled name is written ``./digits``.
        target: Column or array to predict; needed for files, ``label`` for images.
        categorical: Columns of a table to read as categories.
        drop: Columns of a table to leave out.
        how: As in ``split``; ``None`` where the data come with a part to test on.

    Raises:
        EdgeportError: They cannot be read, or nothing can be learned from them.
    """
    path = Path(where)
    _refuse_what_does_not_fit(where, target, categorical, drop)
    if where == "digits":
        return digits(how)
    if where in BUNDLED:
        return dataset(bundled_table(where), target or "target", drop=drop, how=how)
    if _is_table(path):
        table = read_csv(path, categorical=categorical, drop=drop)
        return dataset(table, needed(target, path, table.columns), how=how)
    if path.suffix.lower() == ".npz" and not path.is_dir():
        return read_npz(path, target, how=how)
    if path.is_dir():
        return _folder(path, how)
    if path.exists():
        raise UsageError(
            f"{path} is neither a .csv, a .tsv, an .npz nor a folder",
            remedy="save it as one of them",
        )
    raise MissingFileError(
        f"no such data: {where}", remedy=f"give a file, a folder, or one of {', '.join(BUNDLED)}"
    )


def _refuse_what_does_not_fit(
    where: str, target: str | None, categorical: Collection[str], drop: Collection[str]
) -> None:
    """Refuse columns of what has none, and a target of what comes with its classes."""
    path = Path(where)
    is_table = _is_table(path)
    tabular = is_table or (where in BUNDLED and where != "digits")
    if (categorical or drop) and not tabular:
        raise UsageError(f"{where} has no columns", remedy="leave --categorical and --drop out")
    if categorical and not is_table:
        raise UsageError(
            f"the columns of {where} are read as the numbers that they are",
            remedy="leave --categorical out, or give a .csv or .tsv file",
        )
    if target not in (None, "label") and (where == "digits" or path.is_dir()):
        raise UsageError(
            f"{where} has images and their classes, and no column or array {target!r}",
            remedy="leave --target out, or give a .csv, .tsv or .npz file: this is a folder"
            if path.is_dir()
            else "leave --target out",
        )
    if target in drop:
        raise UsageError(
            f"{target!r} is to be predicted and left out", remedy="take it out of --drop"
        )


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLES and not path.is_dir()


def image_folder(folder: Path, how: Split | None = None) -> DataSet:
    """Images and their classes: ``image`` is uint8, RGB.

    (n, height, width, 3) if all are of one size, else an array of (height, width, 3) arrays, or
    of files that are decoded when they are looked at: see ``read_images``.

    Args:
        folder: With one folder per class, or with ``train`` and ``val`` (else ``test``) that have
            them: then these are held out.
        how: As for ``open_data``.

    Raises:
        EdgeportError: As ``image_files`` and ``read_image``; the parts have other classes.
    """
    parts = own_parts(folder)
    if parts:
        _check_not_drawn(folder, how)
    found = [image_files(place) for place in parts or [folder]]
    classes = found[0][2]
    if found[-1][2] != classes:
        raise SourceError(
            f"{parts[0]} has the classes {', '.join(classes)}, {parts[-1]} has "
            f"{', '.join(found[-1][2])}",
            remedy="give both the same folders",
        )
    images = read_images([file for files, _, _ in found for file in files])
    labels = [label for _, numbers, _ in found for label in numbers]
    sizes = {image.shape[:2] for image in images}
    size = "x".join(map(str, sizes.pop())) if len(sizes) == 1 else "several sizes"
    whole = Labelled({"image": images}, np.asarray(labels, np.int64))
    schema = {"image": f"uint8 RGB, {size}"}
    name = folder.resolve().name
    notes = tuple(note for place in [folder, *parts] for note in _beside_classes(place))
    if not parts:
        data = split(name, whole, how=how, schema=schema, classes=classes)
        return replace(data, notes=notes)
    train, test = np.split(np.arange(len(whole)), [len(found[0][0])])
    before = whole.rows(train), whole.rows(test)
    return replace(split_before(name, *before, schema=schema, classes=classes), notes=notes)


def _beside_classes(folder: Path) -> Iterator[str]:
    images = sorted(path.name for path in folder.iterdir() if is_image_file(path))
    if images:
        count = "1 image" if len(images) == 1 else f"{len(images):,} images"
        yield f"left out {count} in no folder of a class: {folder / images[0]}" + (
            ", ..." if len(images) > 1 else ""
        )


def _folder(path: Path, how: Split | None) -> DataSet:
    read = _reader(path)
    if read is not None:
        _check_not_drawn(path, how)
        return read(path)
    inside = [p for p in sorted(path.iterdir()) if p.is_dir() and _reader(p) is not None]
    if inside:
        raise UsageError(
            f"{path} holds {len(inside)} data sets: {', '.join(p.name for p in inside)}",
            remedy=f"name one: --data {inside[0]}",
        )
    return image_folder(path, how)


def _reader(path: Path) -> Callable[[Path], DataSet] | None:
    if is_idx_set(path):
        return read_idx_set
    return read_cifar if is_cifar(path) else None


def _check_not_drawn(path: Path, how: Split | None) -> None:
    if how is not None:
        raise UsageError(
            f"{path} comes with a part to test on, which is what is held out",
            remedy="leave --held-out and --stratify out",
        )


def one_size(data: DataSet) -> None:
    """Refuse images of several sizes.

    Raises:
        SourceError: They are.
    """
    for name, array in data.train.inputs.items():
        images = [*array, *data.held_out.inputs[name]] if array.dtype == object else []
        if len({image.shape for image in images}) > 1:
            raise SourceError(
                f"{name!r} in {data.origin.name} has images of several sizes",
                remedy="train vision:resnet18, which resizes them in the artefact, or bring them "
                "to one small size",
            )
