"""Texts with labels from a .csv or .tsv file."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from edgeport.runtimes.errors import MissingFileError, SourceError, StorageError


@dataclass(frozen=True, slots=True)
class Lines:
    """Texts, one label each.

    Attributes:
        duplicates: How many lines were left out because their text was there already: a text
            that is trained on and held out measures memory.
        sha256: Of what was read, before duplicates were left out.
    """

    texts: list[str]
    labels: list[str]
    duplicates: int
    sha256: str


def read_lines(path: Path, text: str, label: str) -> Lines:
    """Read a table of texts.

    Args:
        path: UTF-8, ``.tsv`` (tabs, no quotes) or ``.csv`` (commas, quotes as Excel writes them).
        text: Column, by its name in the first line; or by number from 1, if there is no such
            name: then the first line is a text like the others.
        label: Column, named in the same way.

    Raises:
        MissingFileError: There is no such file.
        SourceError: It is no such table, lacks a column, or holds fewer than two labels.
        StorageError: It cannot be read.
    """
    rows = _rows(path)
    header = rows[0]
    if text in header and label in header:
        columns, rows = (header.index(text), header.index(label)), rows[1:]
    elif text.isdecimal() and label.isdecimal():
        columns = (int(text) - 1, int(label) - 1)
    else:
        missing = next(name for name in (text, label) if name not in header)
        raise SourceError(
            f"{path} has no column {missing!r}",
            remedy=f"its first line has {', '.join(header[:20])}; or give numbers from 1",
        )
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if not all(0 <= column < len(row) for column in columns):
            raise SourceError(
                f"{path}: text {number} has {len(row)} columns, {max(columns) + 1} are needed",
                remedy="correct the line; a .tsv has tabs between columns, a .csv commas",
            )
        if not row[columns[1]]:
            raise SourceError(
                f"{path}: text {number} has no label", remedy="give it one, or remove the line"
            )
        found.setdefault(row[columns[0]], row[columns[1]])
    if len(set(found.values())) < 2:
        raise SourceError(
            f"{path} holds {len(set(found.values()))} label, two are needed to tell apart",
            remedy="check the column of --label",
        )
    read = "".join(f"{row[columns[0]]}\t{row[columns[1]]}\n" for row in rows)
    sha256 = hashlib.sha256(read.encode("utf-8", "surrogatepass")).hexdigest()
    return Lines(list(found), list(found.values()), len(rows) - len(found), sha256)


def _rows(path: Path) -> list[list[str]]:
    if path.suffix not in (".csv", ".tsv"):
        raise SourceError(f"{path} is neither .csv nor .tsv", remedy="name it by what it is")
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="check the path of --data")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise SourceError(f"{path} is not UTF-8: {e}", remedy="save it as UTF-8") from e
    except OSError as e:
        raise StorageError(
            f"cannot read {path}: {e.strerror or e}", remedy="check its permissions"
        ) from e
    if path.suffix == ".tsv":
        rows = [line.removesuffix("\r").split("\t") for line in content.split("\n") if line]
    else:
        csv.field_size_limit(2**31 - 1)
        try:
            rows = [
                row for row in csv.reader(content.splitlines(keepends=True), strict=True) if row
            ]
        except csv.Error as e:
            raise SourceError(
                f"{path} is not a table: {e}", remedy="quote texts with commas"
            ) from e
    if not rows:
        raise SourceError(f"{path} is empty", remedy="give one line per text")
    return rows
