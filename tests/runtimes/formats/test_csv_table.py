import re
from pathlib import Path

import pytest

from edgeport.runtimes import FormatError, StorageError
from edgeport.runtimes.formats.csv_table import read_table


def test_a_row_knows_where_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    long = "x" * 200_000  # Python's own limit is 131,072
    path.write_text(f'\ufeff\na, b \n\n1,"two\r\nlines"\r\n{long},3\n', "utf-8", newline="")
    table = read_table(path)
    assert table.header == ["a", "b"]
    assert table.rows == [["1", "two\r\nlines"], [long, "3"]]
    assert table.lines == [4, 6]


def test_tabs(tmp_path: Path) -> None:
    path = tmp_path / "a.TSV"
    path.write_text('\ufeffa\t b\n\n"1, 2\t"\r\n', "utf-8", newline="")
    table = read_table(path)
    assert (table.header, table.rows, table.lines) == (["a", "b"], [['"1, 2', '"']], [3])
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FormatError, match=r"has no tabs between its columns: 'a,b'"):
        read_table(path)
    path.write_bytes(b"a\tb\n1\t\xe9\n")
    with pytest.raises(FormatError, match=r"is not UTF-8: 'utf-8' codec can't decode byte 0xe9"):
        read_table(path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(StorageError, match=f"cannot read .*{name}: Is a directory"):
        read_table(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"a;b\n1;2\n", "has no commas between its columns: 'a;b'"),
        (b"a;b\n1,5;2\n", "has no commas between its columns: 'a;b'"),
        (b"a\tb\n1\t2\n", r"has no commas between its columns: 'a\tb'"),
        (b'a,b\n"1\n2",3\n4\n', "line 4 has 1 values, the first line has 2"),
        (b'a,b\n1,2\n3,"4\n5,6\n', "unexpected end of data in the row that begins on line 3"),
        ("a,b\n1,2\n".encode("utf-16-le"), "has zero bytes in its first line, as UTF-16 has"),
        (b"a,b\n1,\xe9\n", "is not a CSV file in UTF-8: 'utf-8' codec can't decode byte 0xe9"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(FormatError, match=re.escape(problem)):
        read_table(tmp_path / "a.csv")
