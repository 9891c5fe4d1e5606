"""Lines of text from tables: a text is what stands there, with any character in it."""

import csv
from pathlib import Path

import pytest

from edgeport.runtimes import FormatError, SourceError
from edgeport.training.text.lines import read_lines, read_texts

TEXTS = ["one\u2028two", "three\x85four", "five\x0c, \x1csix", 'said "no"\nand left', "\u2029"]


@pytest.mark.parametrize("dialect", ["unix", "excel"])
def test_a_table_is_cut_at_the_ends_of_its_lines(tmp_path: Path, dialect: str) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, dialect).writerows(
            [("text", "label"), *((text, f"{n % 2}") for n, text in enumerate(TEXTS))]
        )
    assert read_lines(path, "text", "label").texts == TEXTS
    assert read_texts(path, "text")[0] == TEXTS


def test_a_text_per_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\u2028two\n\nthree\x85\n", "utf-8-sig")
    assert read_texts(path, None)[0] == ["one\u2028two", "three\x85"]


def test_white_space_around_labels_and_names_is_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.CSV"
    path.write_text("text, label\n one , a\ntwo,a \nthree,b\n")
    found = read_lines(path, "text", "label")
    assert found.labels == ["a", "a", "b"]
    assert found.texts == [" one ", "two", "three"]
    assert read_texts(path, "text")[0] == found.texts


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("", None),
        ("a,0\n", "left out 1 text that was there already"),
        (
            "a,0\na,1\nb,0\n",
            "left out 3 texts that were there already; 2 with another label than the first, which "
            "is kept",
        ),
    ],
)
def test_texts_that_are_there_twice_are_told(tmp_path: Path, more: str, told: str | None) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,label\na,0\nb,1\n{more}")
    found = read_lines(path, "text", "label")
    assert (found.texts, found.labels, found.left_out) == (["a", "b"], ["0", "1"], told)


@pytest.mark.parametrize("first", ["text,label\n", ""])
def test_a_comma_too_many_is_no_label(tmp_path: Path, first: str) -> None:
    """Of text without quotes, `win, or lose,spam`, the label would be `or lose`."""
    path = tmp_path / "a.csv"
    path.write_text(first + "a,0\nb,1\nwin, or lose,1\n" * 2)
    columns = ("text", "label") if first else ("1", "2")
    with pytest.raises(FormatError, match=r"line [34] has 3 values, the first line has 2"):
        read_lines(path, *columns)
    with pytest.raises(FormatError, match=r"has 3 values, the first line has 2"):
        read_texts(path, columns[0])


@pytest.mark.parametrize("number", ["0", "3"])
def test_columns_are_numbered_from_1(tmp_path: Path, number: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,x\nb,y\n")
    problem = f"has no column {number}: its first line has 2\n  fix: columns are numbered from 1"
    for read in (lambda: read_lines(path, number, "2"), lambda: read_texts(path, number)):
        with pytest.raises(SourceError, match=problem):
            read()
