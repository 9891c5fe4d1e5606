"""Raw data of a file as the inputs of a model, read by its signature: numpy, and no torch.

Text is an int32 tensor with a free axis ``characters``: code points, -1 after the end.
Images are a uint8 tensor, as a decoder gives them.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgeport.commands.terminal import note, size_text
from edgeport.runtimes import (
    FormatError,
    InputError,
    MissingFileError,
    Range,
    Signature,
    TensorSpec,
    UsageError,
)
from edgeport.runtimes.formats.csv_table import TABLES, read_table
from edgeport.runtimes.formats.numpy_files import read_npy, read_npz
from edgeport.runtimes.images import (
    images_in,
    is_animated,
    is_image,
    is_image_file,
    opened,
    others_in,
    pixels,
)
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.predictor import as_float
from edgeport.runtimes.rows import cut, row_axis, row_dimension
from edgeport.runtimes.text import MOST_CHARACTERS, encode, is_text

BATCH_ROWS: Final = 1024

_MOST_COMING_BYTES: Final = 64 * 2**20
_TOLD: Final = 3
_IMAGE_AXES: Final = 4
_WHAT_COMES_IN: Final = Path("-")
_NONE: Final[Mapping[str, Sequence[str]]] = {}


@dataclass(frozen=True, slots=True)
class Raw:
    """Some rows: what each is called, and the inputs."""

    rows: tuple[str, ...]
    inputs: Mapping[str, Array]


def read(
    path: Path, signature: Signature, categories: Mapping[str, Sequence[str]] = _NONE
) -> Iterator[Raw]:
    """Read a file in batches.

    Args:
        path: ``.csv`` or ``.tsv``: a column per input, by name. ``.npz``: an array per input.
            ``.npy``: that of the only input. ``.txt``: a text per line. An
            image, or a folder of them. ``-``: what comes in, as ``.txt`` where the only input is
            text, else as ``.csv``; at most 64 MiB of a pipe.
        signature: Of the model.
        categories: What columns of text may be. White space around them is none of them, as it is
            when a table is trained on; it is told where a row has another. Other text stays as it
            is.

    Raises:
        MissingFileError: There is nothing at ``path``.
        FormatError: It is not what its name says.
        InputError: A column or array is missing, a value does not fit, or more comes in than that.
        UsageError: The model does not take what is in such a file.
        BackendMissingError: Pillow is needed and not installed.
    """
    if path == _WHAT_COMES_IN:
        is_lines = len(signature.inputs) == 1 and is_text(signature.inputs[0])
        come = _what_comes_in()
        return _lines(come, signature) if is_lines else _table(come, signature, categories)
    if not path.exists():
        raise MissingFileError(f"no such file: {path}", remedy="check the path of --input")
    suffix = path.suffix.lower()
    if path.is_dir() or is_image_file(path):
        return _images(path, signature)
    readers: dict[str, Callable[[Path, Signature], Iterator[Raw]]] = {
        **dict.fromkeys(TABLES, partial(_table, categories=categories)),
        ".npz": _arrays,
        ".npy": _arrays,
        ".txt": _lines,
    }
    if suffix not in readers:
        raise UsageError(
            f"{path} is neither .csv, .tsv, .npz, .npy, .txt nor an image",
            remedy="save it as one of them; --input - reads a table, or lines of text, as it comes",
        )
    return readers[suffix](path, signature)


def _what_comes_in() -> Path:
    """Where it can be read from: of a pipe, which may never end, a copy in memory takes its place.

    Raises:
        InputError: It is too long.
    """
    come = Path("/dev/stdin")
    if not come.is_file():
        with come.open("rb") as stream:
            data = stream.read(_MOST_COMING_BYTES + 1)
        if len(data) > _MOST_COMING_BYTES:
            raise InputError(
                f"more than {size_text(_MOST_COMING_BYTES)} came in",
                remedy="save it in a file, and name that",
            )
        handle = os.memfd_create("stdin", os.MFD_CLOEXEC)
        with os.fdopen(handle, "wb") as copy:
            copy.write(data)
            copy.flush()
            os.dup2(handle, 0)
    return come


def _is_column(spec: TensorSpec) -> bool:
    return len(spec.shape) == 1 or is_text(spec)


def _fitting(signature: Signature) -> str:
    """Which files the model takes, as a remedy."""
    (first, *others) = signature.inputs
    alone = not others
    found = [
        *(["an image or a folder of images"] if alone and is_image(first) else []),
        *([".txt"] if alone and is_text(first) else []),
        *([".csv"] if all(map(_is_column, signature.inputs)) else []),
        *([".npy"] if alone else []),
        ".npz",
    ]
    return f"give {' or '.join(found)}"


def found(path: Path) -> list[Path]:
    """The files that ``read`` reads: of a folder its images, in order."""
    if not path.is_dir():
        return [path]
    return images_in(path)


def _table(
    path: Path, signature: Signature, categories: Mapping[str, Sequence[str]]
) -> Iterator[Raw]:
    for spec in signature.inputs:
        if not _is_column(spec):
            raise UsageError(f"{spec} is no column of a table", remedy=_fitting(signature))
    table = read_table(path)
    header, rows = table.header, table.rows
    for spec in signature.inputs:
        if spec.name not in header:
            raise InputError(
                f"{path} has no column {spec.name!r}",
                remedy=f"it needs {', '.join(s.name for s in signature.inputs)}; it has "
                f"{', '.join(header)}",
            )
        if header.count(spec.name) > 1:
            raise InputError(f"{path} has two columns {spec.name!r}", remedy="rename one")
    texts: dict[str, Sequence[str]] = {}
    for spec in signature.inputs:
        place = header.index(spec.name)
        as_it_is = is_text(spec) and spec.name not in categories
        texts[spec.name] = [row[place] if as_it_is else row[place].strip() for row in rows]
    for name in categories.keys() & texts.keys():
        _tell_unknown(path, name, texts[name], categories[name], table.lines)
    longest = sum(
        max(map(len, texts[spec.name]), default=0) for spec in signature.inputs if is_text(spec)
    )
    for batch in _batches(len(rows), signature, longest):
        yield Raw(
            tuple(str(row + 1) for row in range(len(rows))[batch]),
            _columns(
                path,
                signature,
                {name: column[batch] for name, column in texts.items()},
                table.lines[batch],
            ),
        )


def _tell_unknown(
    path: Path, name: str, texts: Sequence[str], known: Sequence[str], lines: Sequence[int]
) -> None:
    among = frozenset(known)
    unknown = [row for row, text in enumerate(texts) if text not in among]
    if unknown:
        first = unknown[0]
        note(
            f"{path} line {lines[first]}: {name!r} is {texts[first]!r}, which was not among the "
            f"{len(known)} categories that the model was trained on; "
            + (f"so in {len(unknown):,} of {len(texts):,} rows: " if len(unknown) > 1 else "")
            + "it is answered as none of them"
        )


def _columns(
    path: Path, signature: Signature, texts: Mapping[str, Sequence[str]], lines: Sequence[int]
) -> dict[str, Array]:
    text_columns = [spec.name for spec in signature.inputs if is_text(spec)]
    width = max((len(t) for name in text_columns for t in texts[name]), default=0)
    inputs: dict[str, Array] = {}
    for spec in signature.inputs:
        found = texts[spec.name]
        inputs[spec.name] = (
            encode(found, width)
            if is_text(spec)
            else np.asarray(
                [_number(path, spec, text, line) for text, line in zip(found, lines, strict=True)],
                spec.dtype,
            )
        )
    return inputs


def _number(path: Path, spec: TensorSpec, text: str, line: int) -> float:
    dtype = np.dtype(spec.dtype)
    value, expected = (_real if dtype.kind == "f" else _integer)(text, dtype)
    if value is None or "_" in text:  # Python takes 1_000 as a number
        raise InputError(
            f"{path} line {line}: {spec.name!r} is {text!r}, expected {expected}",
            remedy="correct it, or leave the line out",
        )
    return value


def _real(text: str, dtype: "np.dtype[Any]") -> tuple[float | None, str]:
    """A number that is finite in its type, if it is one, and what is expected."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    with np.errstate(over="ignore"):
        fits = bool(np.isfinite(np.asarray(value, dtype)))
    return (value if fits else None), f"a number that {dtype.name} can hold"


def _integer(text: str, dtype: "np.dtype[Any]") -> tuple[int | None, str]:
    """An integer that its type can hold, if it is one, and what is expected."""
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    value: int | None
    try:
        value = int(text)  # exact, where a float of 2**53 + 1 is not
    except ValueError:
        real, _ = _real(text, np.dtype(np.float64))
        value = int(real) if real is not None and real.is_integer() else None
    fits = value is not None and least <= value <= most
    return (value if fits else None), f"an integer from {least} to {most}"


def _lines(path: Path, signature: Signature) -> Iterator[Raw]:
    (spec, *others) = signature.inputs
    if others or not is_text(spec):
        raise UsageError(
            f"the model takes {', '.join(map(str, signature.inputs))}, not lines of text",
            remedy=_fitting(signature),
        )
    try:
        content = path.read_text("utf-8-sig")
    except UnicodeDecodeError as e:
        raise FormatError(f"{path} is not UTF-8: {e}", remedy="save it as UTF-8") from e
    # a line ends where a file's does: splitlines cuts a text at U+2028 too
    texts = content.removesuffix("\n").split("\n") if content else []
    for batch in _batches(len(texts), signature, max(map(len, texts), default=0)):
        part = texts[batch]
        rows = tuple(str(batch.start + index + 1) for index in range(len(part)))
        yield Raw(rows, {spec.name: encode(part)})


def _arrays(path: Path, signature: Signature) -> Iterator[Raw]:
    names = [spec.name for spec in signature.inputs]
    arrays = read_npz(path) if path.suffix.lower() == ".npz" else _array_alone(path, signature)
    for name in names:
        if name not in arrays:
            raise InputError(
                f"{path} has no array {name!r}",
                remedy=f"it needs {', '.join(names)}; it has {', '.join(arrays) or 'none'}",
            )
    dimension = row_dimension(signature)
    axes = {spec.name: row_axis(spec, dimension) for spec in signature.inputs}
    rows = {n: _rows_along(arrays[n], axis) for n, axis in axes.items() if axis is not None}
    counts = set(rows.values()) or {1}  # of numbers alone
    if counts == {0}:
        raise InputError(f"the arrays of {path} have no rows", remedy="give at least one row")
    if len(counts) != 1:
        told = ", ".join(f"{name} has {count}" for name, count in rows.items())
        raise InputError(
            f"the arrays of {path} have not as many rows each: {told}",
            remedy="give as many rows in each",
        )
    (count,) = counts
    for spec in signature.inputs:  # as a training takes the same file
        dtype = np.dtype(spec.dtype)
        if dtype.kind == arrays[spec.name].dtype.kind == "f":
            arrays[spec.name] = as_float(arrays[spec.name], dtype, spec)
    for batch in _batches(count, signature):
        numbers = tuple(str(row + 1) for row in range(batch.start, batch.stop))
        yield Raw(numbers, {name: cut(arrays[name], axis, batch) for name, axis in axes.items()})


def _array_alone(path: Path, signature: Signature) -> dict[str, Array]:
    (spec, *others) = signature.inputs
    if others:
        raise UsageError(
            f"the model takes {', '.join(map(str, signature.inputs))}, not one array",
            remedy="give an .npz file",
        )
    return {spec.name: read_npy(path)}


def _rows_along(array: Array, axis: int) -> int:
    return int(array.shape[axis]) if axis < array.ndim else 0


def _batches(rows: int, signature: Signature, longest: int = 0) -> list[slice]:
    """Parts of some rows that the model takes, as far as there are any.

    Args:
        rows: How many.
        signature: Of the model.
        longest: Characters of the longest text; all of a part are padded to it.
    """
    dimension = row_dimension(signature)
    most = max(1, min(BATCH_ROWS, MOST_CHARACTERS // max(1, longest)))
    if dimension is not None:
        return signature.range_of(dimension).parts(rows, most)
    fixed = next((spec.shape[0] for spec in signature.inputs if spec.shape), None)
    if isinstance(fixed, int):
        return Range(fixed, fixed, step=max(1, fixed)).parts(rows, most)
    return Range().parts(rows, most)


def _images(path: Path, signature: Signature) -> Iterator[Raw]:
    (spec, *others) = signature.inputs
    if others or not is_image(spec):
        near = not others and len(spec.shape) == _IMAGE_AXES
        raise UsageError(
            f"the model takes {', '.join(map(str, signature.inputs))}, not images as they are",
            remedy=_fitting(signature) + "; images go into uint8[batch, height, width, 3]" * near,
        )
    if path.is_dir():
        tell_left_out(path)
    tell_animated(path)
    for file in found(path):
        name = str(file.relative_to(path)) if path.is_dir() else file.name
        with opened(file) as image:
            decoded = pixels(image, spec)
        yield Raw((name,), {spec.name: decoded[None]})


def tell_left_out(folder: Path) -> None:
    """Say which files of a folder of images are none by their names."""
    if others := others_in(folder):
        count = "1 file" if len(others) == 1 else f"{len(others):,} files"
        note(
            f"left out {count} of {folder} whose name is that of no image which is read: "
            + _some(others, folder)
        )


def tell_animated(path: Path) -> None:
    """Say which images, of a folder or alone, have more in them than is looked at."""
    if several := [file for file in found(path) if is_animated(file)]:
        count = "1 image has" if len(several) == 1 else f"{len(several):,} images have"
        note(f"{count} several frames, of which the first is taken: {_some(several, path)}")


def _some(files: Sequence[Path], folder: Path) -> str:
    names = (str(file if file == folder else file.relative_to(folder)) for file in files[:_TOLD])
    return ", ".join(names) + ", ..." * (len(files) > _TOLD)
