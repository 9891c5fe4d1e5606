"""Tables in UTF-8: ``.csv`` has commas and quotes, ``.tsv`` tabs and no quotes.

Each row knows the line of the file on which it begins.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgeport.runtimes.bundles.container import reading
from edgeport.runtimes.errors import FormatError

TABLES: Final = (".csv", ".tsv")

_LONGEST_FIELD: Final = 2**31 - 1  # of Python's own 131,072 a long text has more


@dataclass(frozen=True, slots=True)
class CsvTable:
    """The cells of a table.

    Attributes:
        header: Names of the columns, without white space around them.
        rows: The others, each as long as the header.
        lines: Where each row begins: its number from 1 in the file.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]


def read_table(path: Path) -> CsvTable:
    """Read a table whose first line names its columns.

    Raises:
        FormatError: It is no such file in UTF-8, is empty, has other marks between its columns, or
            a line is of another length.
        StorageError: It cannot be read.
    """
    found = list(numbered_rows(path))
    if not found:
        raise FormatError(f"{path} is empty", remedy="give it a header and rows")
    marks, others = ("tabs", ",;|") if _has_tabs(path) else ("commas", ";\t|")
    header = [name.strip() for name in found[0][1]]
    if any("\0" in name for name in header):
        raise FormatError(
            f"{path} has zero bytes in its first line, as UTF-16 has", remedy="save it as UTF-8"
        )
    if len(header) == 1 and any(mark in header[0] for mark in others):
        raise FormatError(
            f"{path} has no {marks} between its columns: {header[0]!r}",
            remedy=f"save it with {marks} between the columns, and points in its numbers",
        )
    check_lengths(path, found)
    return CsvTable(header, [row for _, row in found[1:]], [line for line, _ in found[1:]])


def check_lengths(path: Path, rows: Sequence[tuple[int, Sequence[str]]]) -> None:
    """Refuse a row of another length: a comma too many would move what is behind it.

    Args:
        path: The file.
        rows: All of it, as ``numbered_rows`` has them.

    Raises:
        FormatError: A row is longer or shorter than the first.
    """
    length = len(rows[0][1])
    for line, row in rows:
        if len(row) != length:
            raise FormatError(
                f"{path} line {line} has {len(row)} values, the first line has {length}",
                remedy="correct the line; of a .csv text with commas stands in quotes, a .tsv has "
                "tabs between its columns",
            )


def numbered_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a file, each with the line on which it begins; empty lines are left out.

    Raises:
        FormatError: It is not in UTF-8, or a CSV file with broken quotes.
        StorageError: It cannot be read.
    """
    if _has_tabs(path):
        return _split_at_tabs(path)
    return _split_at_commas(path)


def _has_tabs(path: Path) -> bool:
    return path.suffix.lower() == ".tsv"


def _split_at_tabs(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with reading(path), path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if text := line.removesuffix("\n"):
                    yield number, text.split("\t")
    except UnicodeDecodeError as e:
        raise FormatError(f"{path} is not UTF-8: {e}", remedy="save it as UTF-8") from e


def _split_at_commas(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    line = 0
    try:
        with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    yield line + 1, row
                line = reader.line_num
    except (csv.Error, UnicodeDecodeError) as e:
        where = f" in the row that begins on line {line + 1}" if isinstance(e, csv.Error) else ""
        raise FormatError(
            f"{path} is not a CSV file in UTF-8: {e}{where}",
            remedy="save it as CSV, UTF-8, with commas, and quotes around text that has commas",
        ) from e
