"""Data as numpy arrays in one ``.npz`` file."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from edgeport.runtimes.errors import MissingFileError, SourceError, UsageError
from edgeport.runtimes.formats import numpy_files

from .examples import Array, DataSet, Labelled, Split, narrowed
from .splitting import split

_FEW: Final = 10


def read_npz(path: Path, target: str | None, *, how: Split | None = None) -> DataSet:
    """Read named arrays, one row per example; one of them is the target.

    Integers of the target are classes, floats are values. Inputs keep their dtype, but float64
    becomes float32.

    Args:
        path: Written with ``np.savez(path, image=..., label=...)``.
        target: Name of the array to predict; an error tells which there are, if it is left out.
        how: As in ``split``.

    Raises:
        MissingFileError: There is no such file.
        FormatError: It holds no plain arrays, or is damaged.
        StorageError: It cannot be read.
        UsageError: No target is named, or no array has its name.
        SourceError: The arrays do not fit one another, or nothing can be learned from them.
    """
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="check the path of --data")
    arrays = numpy_files.read_npz(path)
    target = needed(target, path, arrays)
    if target not in arrays or len(arrays) == 1:
        raise UsageError(
            f"{path} has no array {target!r} beside inputs",
            remedy=f"name the target with --target: it has {', '.join(arrays) or 'none'}",
        )
    labels = arrays.pop(target)
    if labels.dtype.kind not in "iubf":
        raise SourceError(
            f"{target!r} is {labels.dtype}, expected integers or floats",
            remedy="number the classes",
        )
    if labels.dtype.kind == "f" and labels.ndim != 1:
        raise SourceError(
            f"{target!r} in {path} is {list(labels.shape)}, expected one value per example",
            remedy="give (n,) numbers: one model predicts one value",
        )
    labels = _raw(path, target, labels) if labels.dtype.kind == "f" else _classes(target, labels)
    inputs = {name: _raw(path, name, array) for name, array in arrays.items()}
    data = split(path.stem, Labelled(inputs, labels), how=how, target=target)
    return replace(data, notes=tuple(_guessed(target, np.unique(labels))))


def _classes(target: str, labels: Array) -> Array:
    most = np.iinfo(np.int64).max
    if labels.dtype == np.uint64 and labels.size and labels.max() > most:  # else it wraps
        raise SourceError(
            f"{target!r} holds the class {labels.max()}, expected at most {most}",
            remedy="number the classes from 0 without gaps: np.unique(y, return_inverse=True)[1]",
        )
    return labels.astype(np.int64)


def _guessed(target: str, found: Array) -> Iterator[str]:
    """What the type of a target says, where the numbers in it look otherwise."""
    if found.dtype.kind == "f":
        if len(found) <= _FEW and (found == np.round(found)).all():
            yield (
                f"{target!r} holds {len(found)} different whole numbers, taken as values; if they "
                "are classes: save them as integers"
            )
        return
    absent = np.setdiff1d(np.arange(found[-1]), found)
    if len(absent):
        yield (
            f"{target!r} has no example of {len(absent)} of its {found[-1] + 1} classes: "
            f"{', '.join(map(str, absent[:_FEW]))}{', ...' * (len(absent) > _FEW)}; classes are "
            "numbered from 0"
        )


def needed(target: str | None, path: Path, names: Iterable[str]) -> str:
    """The target, if one is named.

    Raises:
        UsageError: None is.
    """
    if target is None:
        raise UsageError(
            f"what is to be predicted from {path}?",
            remedy=f"name it with --target: it has {', '.join(itertools.islice(names, 20))}",
        )
    return target


def _raw(path: Path, name: str, array: Array) -> Array:
    """An array as a model takes it."""
    if not array.size:
        raise SourceError(
            f"{name!r} in {path} is {array.dtype}{list(array.shape)}, which holds no number",
            remedy="give it one row per example, or leave it out",
        )
    if array.dtype.kind not in "biuf":
        raise SourceError(
            f"{name!r} in {path} is {array.dtype}{list(array.shape)}, expected numbers",
            remedy="save it as integers or floats, or leave it out",
        )
    if array.dtype.kind != "f":
        return array
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise SourceError(
            f"{name!r} in {path} is not finite in example {row}",
            remedy="correct it, or leave the example out",
        )
    return narrowed(array, f"{name!r} in {path}")
