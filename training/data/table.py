"""Tables: a CSV file as raw columns, numbers and text, and what is wrong with it."""

import math
import re
import reprlib
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from edgeport.runtimes.errors import FormatError, MissingFileError, SourceError, UsageError
from edgeport.runtimes.formats.csv_table import read_table

from .examples import Array, DataSet, Labelled, Split, narrowed
from .splitting import split

MOST_CATEGORIES: Final = 1000

_MOST_NAMED: Final = 20

_CODE: Final = re.compile(r"[+-]?0[0-9]")
"""How a code may begin, and a number hardly."""

_COUNTED: Final = 10
"""Rows from which on a column that rises by 1 is hardly chance."""

_MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, as many values in each: float64, or str for text.

    Attributes:
        name: Of the data set.
        columns: As they are in the file, in its order.
        notes: What was guessed of them, in sentences.
    """

    name: str
    columns: Mapping[str, Array]
    notes: tuple[str, ...] = ()


def read_csv(path: Path, *, categorical: Collection[str] = (), drop: Collection[str] = ()) -> Table:
    """Read a ``.csv`` or ``.tsv`` file with a header, in UTF-8.

    A column is numbers if every value is one, else text.

    Args:
        path: The file.
        categorical: Columns to read as text, though they may look like numbers.
        drop: Columns to leave out, whatever is in them.

    Raises:
        MissingFileError: There is no such file.
        FormatError: It is not such a file: no header, a name twice, a line of another length.
        SourceError: A value is missing, or a column mixes numbers and text.
        UsageError: ``categorical`` or ``drop`` names a column that is not there.
    """
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="check the path of --data")
    found = read_table(path)
    header, rows = found.header, found.rows
    _check_header(path, header)
    for column in (*categorical, *drop):
        _check_column(column, header, str(path))
    if len(rows) < 2:
        raise FormatError(
            f"{path} has a header and {'one row' if rows else 'no rows'}",
            remedy="give it some rows",
        )
    columns: dict[str, Array] = {}
    notes: list[str] = []
    for index, name in enumerate(header):
        if name in drop:
            continue
        texts = [row[index].strip() for row in rows]
        columns[name] = _column(path, name, texts, found.lines, name in categorical)
        code = next((text for text in texts if _CODE.match(text)), None)
        if code is not None and columns[name].dtype.kind == "f":
            notes.append(
                f"{name!r} is taken as numbers, so that {code!r} is {float(code):g}; if they are "
                f"codes: --categorical {shlex.quote(name)}"
            )
    return Table(path.stem, columns, tuple(notes))


def dataset(
    table: Table, target: str, *, drop: Collection[str] = (), how: Split | None = None
) -> DataSet:
    """Name the target, and hold a part of the rows out.

    Inputs are the raw columns: numbers are (n,) float32, text is (n, characters) int32, its code
    points and -1 after the end, as wide as the longest of all columns. A target of text is classes,
    one of numbers is values.

    Args:
        table: The data.
        target: Column to predict.
        drop: Columns to leave out.
        how: As in ``split``.

    Raises:
        UsageError: A column is not there.
        SourceError: A column is constant or no category; the target is; too few rows.
    """
    names = list(table.columns)
    for column in (target, *drop):
        _check_column(column, names, table.name)
    columns = {n: c for n, c in table.columns.items() if n != target and n not in drop}
    if not columns:
        raise UsageError(
            f"{table.name} has no column besides the target {target!r}",
            remedy="give it columns to predict from",
        )
    for name, values in columns.items():
        _check_feature(table.name, name, values)
    found = table.columns[target]
    classes: list[str] = []
    if found.dtype.kind == "U":
        known, numbers = np.unique(found, return_inverse=True)
        classes, labels = [str(name) for name in known], numbers.astype(np.int64)
        _check_category(table.name, target, found)
    else:
        labels = narrowed(found, f"{target!r} in {table.name}")
    texts = [values for values in columns.values() if values.dtype.kind == "U"]
    longest = max((len(text) for values in texts for text in values), default=0)
    inputs = {
        name: code_points(values, longest)
        if values.dtype.kind == "U"
        else narrowed(values, f"{name!r} in {table.name}")
        for name, values in columns.items()
    }
    schema = {name: "text" if c.dtype.kind == "U" else "float32" for name, c in columns.items()}
    whole = Labelled(inputs, labels)
    found_split = split(table.name, whole, how=how, schema=schema, target=target, classes=classes)
    counting = [
        f"{name!r} counts the rows; if it says nothing of them: --drop {shlex.quote(name)}"
        for name, values in columns.items()
        if values.dtype.kind == "f" and len(values) >= _COUNTED and np.all(np.diff(values) == 1)
    ]
    return replace(found_split, notes=(*table.notes, *counting))


def code_points(texts: Sequence[str] | Array, width: int | None = None) -> Array:
    """Text as (n, characters) int32: code points, -1 after the end.

    Examples:
        >>> code_points(["no", "yes"]).tolist()
        [[110, 111, -1], [121, 101, 115]]
    """
    width = width or max(1, *(len(text) for text in texts))
    codes = np.full((len(texts), width), -1, np.int32)
    for row, text in enumerate(texts):
        codes[row, : len(text)] = [ord(character) for character in text]
    return codes


def _check_header(path: Path, header: Sequence[str]) -> None:
    if all(_number(name) is not None for name in header):
        raise FormatError(
            f"{path} has numbers in its first line, not names: {', '.join(header[:4])}",
            remedy="name the columns in the first line",
        )
    for index, name in enumerate(header, 1):
        if not name or not name.isprintable():
            raise FormatError(
                f"column {index} of {path} is named {name!r}",
                remedy="give it a name of letters in the first line; no comma ends a line; of "
                "pandas: to_csv(path, index=False)",
            )
        if header.count(name) > 1:
            raise FormatError(f"{path} has two columns {name!r}", remedy="rename one")


def _check_column(column: str, names: Sequence[str], where: str) -> None:
    if column not in names:
        some = ", ".join(map(repr, names[:_MOST_NAMED]))
        more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
        raise UsageError(f"{where} has no column {column!r}", remedy=f"it has {some}{more}")


def _column(
    path: Path, name: str, texts: Sequence[str], lines: Sequence[int], categorical: bool
) -> Array:
    for line, text in zip(lines, texts, strict=True):
        if text.lower() in _MISSING:
            raise SourceError(
                f"{path} line {line}: {name!r} is missing ({text!r})",
                remedy="fill it, remove the line, or leave the column out with --drop",
            )
    if categorical:
        return np.asarray(texts)
    numbers = [_number(text) for text in texts]
    count = sum(number is not None for number in numbers)
    if count == len(texts):
        return np.asarray(numbers, np.float64)
    if count >= len(texts) / 2:
        first = numbers.index(None)
        raise SourceError(
            f"{path} line {lines[first]}: {name!r} is {texts[first]!r}, and a number in "
            f"{count:,} of {len(texts):,} lines",
            remedy=f"correct it, or name the column with --categorical {name}",
        )
    return np.asarray(texts)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _check_feature(table: str, name: str, values: Array) -> None:
    if values.dtype.kind == "U":
        _check_category(table, name, values)
    if (values == values[0]).all():
        exact = values.dtype.kind == "U" or abs(values[0]) < 2**53
        raise SourceError(
            f"{name!r} in {table} is {values[0]} in every row{'' if exact else ', to 16 digits'}: "
            "nothing can be learned from it",
            remedy=f"leave it out: --drop {name!r}",
        )


def _check_category(table: str, name: str, values: Array) -> None:
    different = len(np.unique(values))
    if different > MOST_CATEGORIES or (different == len(values) and len(values) > 2):
        raise SourceError(
            f"{name!r} in {table} is text, as {reprlib.repr(str(values[0]))}, with {different:,} "
            f"different values in {len(values):,} rows: no category",
            remedy=f"leave it out: --drop {name!r}; free text: edgeport train text; numbers have a "
            "point, and no comma or unit",
        )
