"""Texts with labels from a .csv or .tsv file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edgeport.runtimes.errors import MissingFileError, SourceError, StorageError
from edgeport.runtimes.formats.csv_table import TABLES, check_lengths, numbered_rows


@dataclass(frozen=True, slots=True)
class Lines:
    """Texts, one label each.

    Attributes:
        duplicates: How many lines were left out because their text was there already: a text
            that is trained on and held out measures memory.
        contradictions: How many of these have another label than the first, which is kept.
        sha256: Of what was read, before duplicates were left out.
    """

    texts: list[str]
    labels: list[str]
    duplicates: int
    contradictions: int
    sha256: str

    @property
    def left_out(self) -> str | None:
        """What to tell a person about that."""
        if not self.duplicates:
            return None
        texts = (
            "1 text that was" if self.duplicates == 1 else f"{self.duplicates:,} texts that were"
        )
        told = f"left out {texts} there already"
        if not self.contradictions:
            return told
        return f"{told}; {self.contradictions:,} with another label than the first, which is kept"


def read_lines(path: Path, text: str, label: str) -> Lines:
    """Read a table of texts.

    Args:
        path: UTF-8, ``.tsv`` (tabs, no quotes) or ``.csv`` (commas, quotes as Excel writes them).
        text: Column, by its name in the first line; or by number from 1, if there is no such
            name: then the first line is a text like the others.
        label: Column, named in the same way.

    Raises:
        MissingFileError: There is no such file.
        SourceError: It is no such table, lacks a column, holds fewer than two labels, or numbers
            are given and its first line is a header.
        FormatError: It is not in UTF-8, a ``.csv`` with broken quotes, or a line is of another
            length.
        StorageError: It cannot be read.
    """
    rows = _rows(path)
    header = [name.strip() for name in rows[0]]
    if text in header and label in header:
        columns, rows = (header.index(text), header.index(label)), rows[1:]
    elif text.isdecimal() and label.isdecimal():
        columns = (_place(path, text, header), _place(path, label, header))
        _refuse_header(path, rows, *columns)
    else:
        missing = next(name for name in (text, label) if name not in header)
        raise SourceError(
            f"{path} has no column {missing!r}",
            remedy=f"its first line has {', '.join(header[:20])}; or give numbers from 1",
        )
    found: dict[str, str] = {}
    contradictions = 0
    for number, row in enumerate(rows, start=1):
        label_ = row[columns[1]].strip()
        if not label_:
            raise SourceError(
                f"{path}: text {number} has no label", remedy="give it one, or remove the line"
            )
        contradictions += found.setdefault(row[columns[0]], label_) != label_
    if len(set(found.values())) < 2:
        raise SourceError(
            f"{path} holds {len(set(found.values()))} label, two are needed to tell apart",
            remedy="check the column of --label",
        )
    read = "".join(f"{row[columns[0]]}\t{row[columns[1]]}\n" for row in rows)
    sha256 = hashlib.sha256(read.encode("utf-8", "surrogatepass")).hexdigest()
    duplicates = len(rows) - len(found)
    return Lines(list(found), list(found.values()), duplicates, contradictions, sha256)


def _place(path: Path, number: str, first: list[str]) -> int:
    place = int(number) - 1
    if not 0 <= place < len(first):
        raise SourceError(
            f"{path} has no column {number}: its first line has {len(first)}",
            remedy=f"columns are numbered from 1: {', '.join(first[:20])}",
        )
    return place


def _refuse_header(path: Path, rows: list[list[str]], text: int, label: int) -> None:
    """By number, a first line of names would become a text with a label of its own."""
    first = rows[0]
    others = [row[label] for row in rows[1:]]
    if first[label] not in others and len(set(others)) < len(others):
        raise SourceError(
            f"the first line of {path} looks like a header: no other line has the label "
            f"{first[label]!r}",
            remedy=f"give --text {first[text]!r} --label {first[label]!r}; or, if it is a text, "
            "leave it out: one text of a label teaches nothing",
        )


def read_texts(path: Path, text: str | None) -> tuple[list[str], str]:
    """Read texts alone.

    Args:
        path: As for ``read_lines``; or ``.txt``, UTF-8, a text per line, empty lines left out.
        text: The column; of a ``.txt`` ``None``.

    Returns:
        The texts, and the sha256 of what was read.

    Raises:
        MissingFileError: There is no such file.
        SourceError: It is no such table, lacks the column, or holds fewer than two texts.
        FormatError: As ``read_lines``.
        StorageError: It cannot be read.
    """
    if path.suffix.lower() == ".txt":
        if text is not None:
            raise SourceError(
                f"{path} has a text per line and no column {text!r}",
                remedy="leave --text and --label out, or give a .csv or .tsv",
            )
        found = [line for line in _content(path).split("\n") if line.strip()]
    else:
        rows = _rows(path)
        header = [name.strip() for name in rows[0]]
        if text is None:
            raise SourceError(
                f"{path} is a table, and no column is named",
                remedy=f"give --text; its first line has {', '.join(header[:20])}",
            )
        if text not in header and not text.isdecimal():
            raise SourceError(
                f"{path} has no column {text!r}",
                remedy=f"its first line has {', '.join(header[:20])}; or give a number from 1",
            )
        named = text in header
        column = header.index(text) if named else _place(path, text, header)
        found = [row[column] for row in rows[named:]]
    if len(found) < 2:
        raise SourceError(
            f"{path} holds {len(found)} texts, two are needed: one is held out",
            remedy="give one text per line",
        )
    joined = "".join(f"{each}\n" for each in found)
    return found, hashlib.sha256(joined.encode("utf-8", "surrogatepass")).hexdigest()


def _rows(path: Path) -> list[list[str]]:
    if path.suffix.lower() not in TABLES:
        raise SourceError(
            f"{path} is neither .csv nor .tsv",
            remedy="name it by what it is; what has a text per line, for word2vec, .txt",
        )
    _check_there(path)
    rows = list(numbered_rows(path))
    if not rows:
        raise SourceError(f"{path} is empty", remedy="give one line per text")
    check_lengths(path, rows)
    return [row for _, row in rows]


def read_words(path: Path) -> list[str]:
    """Words of a file, in UTF-8, with white space between them.

    Raises:
        MissingFileError: There is no such file.
        SourceError: It is not UTF-8.
        StorageError: It cannot be read.
    """
    return _content(path).split()


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="check the path")


def _content(path: Path) -> str:
    _check_there(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise SourceError(f"{path} is not UTF-8: {e}", remedy="save it as UTF-8") from e
    except OSError as e:
        raise StorageError(
            f"cannot read {path}: {e.strerror or e}", remedy="check its permissions"
        ) from e
