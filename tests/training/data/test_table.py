import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeport.runtimes import EdgeportError, FormatError, MissingFileError, SourceError, UsageError
from edgeport.training import Split
from edgeport.training.data import bundled_table, code_points, dataset, open_data, read_csv

HOUSES = """area,rooms,district,price
50,2,north,100
80.5,3,"south, west",150
120,4,north,260
65,2,Ostrów,120
90,3,north,170
"""

ROWS = HOUSES.partition("\n")[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "houses.csv"
    path.write_text(text, "utf-8")
    return path


def test_columns_are_numbers_or_text(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, "\ufeff" + HOUSES))
    assert table.name == "houses"
    assert table.columns["area"].tolist() == [50, 80.5, 120, 65, 90]
    assert table.columns["district"].tolist() == [
        "north",
        "south, west",
        "north",
        "Ostrów",
        "north",
    ]
    forced = read_csv(write(tmp_path, HOUSES), categorical=["rooms"])
    assert forced.columns["rooms"].tolist() == ["2", "3", "4", "2", "3"]


def test_a_table_becomes_raw_inputs_a_target_and_a_schema(tmp_path: Path) -> None:
    data = dataset(read_csv(write(tmp_path, HOUSES + ROWS)), "price")
    assert data.origin.schema == {"area": "float32", "rooms": "float32", "district": "text"}
    assert (data.origin.target, data.origin.classes, data.origin.examples) == ("price", (), 10)
    assert data.train.labels.dtype == np.float32
    district = np.concatenate([data.train.inputs["district"], data.held_out.inputs["district"]])
    texts = {"".join(map(chr, row[row >= 0])) for row in district}
    assert texts == {"north", "south, west", "Ostrów"}
    assert district.dtype == np.int32
    again = dataset(read_csv(write(tmp_path, HOUSES + ROWS)), "price")
    assert again.origin == data.origin
    changed = dataset(read_csv(write(tmp_path, HOUSES.replace("80.5", "81") + ROWS)), "price")
    assert changed.origin.sha256 != data.origin.sha256


def test_a_target_of_text_is_classes(tmp_path: Path) -> None:
    data = dataset(read_csv(write(tmp_path, HOUSES + ROWS)), "district", drop=["price"])
    assert data.origin.classes == ("Ostrów", "north", "south, west")
    assert list(data.train.inputs) == ["area", "rooms"]
    assert data.train.classification


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HOUSES.replace("80.5", ""), "houses.csv line 3: 'area' is missing ('')"),
        (HOUSES.replace("80.5", "NaN"), "houses.csv line 3: 'area' is missing ('NaN')"),
        (HOUSES.replace("80.5", "n/a"), "houses.csv line 3: 'area' is missing ('n/a')"),
        (HOUSES.replace("80.5", "1e999"), "line 3: 'area' is '1e999', and a number in 4 of 5"),
        (HOUSES.replace("80.5", "large"), "line 3: 'area' is 'large', and a number in 4 of 5"),
        (HOUSES.replace("80.5,3", "80.5"), "line 3 has 3 values, the first line has 4"),
        (HOUSES.replace("rooms", "area"), "has two columns 'area'"),
        (HOUSES.replace("rooms", " "), "houses.csv is named ''"),
        (HOUSES.replace("rooms", "no\u200bms"), "houses.csv is named 'no\\u200bms'"),
        (HOUSES.replace("80.5,3", '80.5,"\n3"').replace("120,", "large,"), "line 5: 'area' is 'l"),
        (HOUSES.replace("area,rooms,district,price\n", ""), "not a CSV"),
        ("1,1\n3,4\n", "has numbers in its first line, not names: 1, 1"),
        ("a,b\n", "has a header and no rows"),
        ("", "is empty"),
        ('a,b\n"1,2\n', "is not a CSV file in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path: Path, text: str, problem: str) -> None:
    if problem == "not a CSV":  # a row is taken for the header: numbers and names are mixed
        assert "50" in read_csv(write(tmp_path, text)).columns
        return
    with pytest.raises((FormatError, SourceError), match=re.escape(problem)):
        read_csv(write(tmp_path, text))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(FormatError, match="is not a CSV file in UTF-8"):
        read_csv(tmp_path / "a.csv")
    with pytest.raises(MissingFileError, match="no such file"):
        read_csv(tmp_path / "b.csv")


def test_white_space_around_names_and_values_is_none_of_them(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, "a, b\n1, u\n2, v \n"))
    assert list(table.columns) == ["a", "b"]
    assert table.columns["b"].tolist() == ["u", "v"]


def test_numbers_that_may_be_codes_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "zip code,share,y\n10,0.5,u\n010,-0,v\n9,0,u\n8,0.1,v\n")
    data = open_data(str(path), target="y")
    assert data.notes == (
        "'zip code' is taken as numbers, so that '010' is 10; if they are codes: "
        "--categorical 'zip code'",
    )
    assert read_csv(path, categorical=["zip code"]).notes == ()


def test_a_column_that_counts_the_rows_is_told(tmp_path: Path) -> None:
    rows = [f"{7 + n},{n % 3},{n},{n * n % 5}" for n in range(12)]
    path = write(tmp_path, "the id,a,y,b\n" + "\n".join(rows) + "\n")
    told = ("'the id' counts the rows; if it says nothing of them: --drop 'the id'",)
    assert dataset(read_csv(path), "y").notes == told
    assert dataset(read_csv(path), "y", drop=["the id"]).notes == ()
    text = read_csv(path, categorical=["a"])
    assert dataset(text, "y").notes == told


def test_a_column_that_is_left_out_may_hold_anything(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b,y\n1,,u\n2,oops,u\n3,3,v\n4,3,v\n")
    data = open_data(str(path), target="y", drop=["b"])
    assert list(data.train.inputs) == ["a"]
    with pytest.raises(UsageError, match="'y' is to be predicted and left out"):
        open_data(str(path), target="y", drop=["y"])
    with pytest.raises(UsageError, match="has no column 'z'"):
        open_data(str(path), target="y", drop=["z"])


@pytest.mark.parametrize(
    ("text", "target", "drop", "problem"),
    [
        (HOUSES, "prize", [], "houses has no column 'prize'"),
        (HOUSES, "price", ["areas"], "houses has no column 'areas'"),
        (HOUSES, "price", ["area", "rooms", "district"], "no column besides the target"),
        ("a,b,y\n1,2,3\n1,4,5\n", "y", [], "'a' in houses is 1.0 in every row"),
        ("a,b,y\nu,2,3\nu,4,5\n", "y", [], "'a' in houses is u in every row"),
        (
            f"a,b,y\n{10**18},2,3\n{10**18 + 1},4,5\n",
            "y",
            [],
            "'a' in houses is 1e+18 in every row, to 16 digits: nothing",
        ),
        (
            ",".join(f"c{n}" for n in range(30)) + "\n" + (",".join("1" * 30) + "\n") * 2,
            "y",
            [],
            "houses has no column 'y'\n  fix: it has 'c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', "
            "'c7', 'c8', 'c9', 'c10', 'c11', 'c12', 'c13', 'c14', 'c15', 'c16', 'c17', 'c18', "
            "'c19' and 10 more",
        ),
        (
            'a,y\n"1,5",3\n"2,5",5\n"3,5",4\n',
            "y",
            [],
            "'a' in houses is text, as '1,5', with 3 different values in 3 rows: no category",
        ),
        ("a,y\n1,3\n2,3\n3,3\n", "y", [], "'y' is 3 in every example: there is nothing to learn"),
        ("a,y\n1,u\n2,u\n3,u\n", "y", [], "'y' holds one class only, u: there is nothing to learn"),
        ("a,y\n1,3\n2,4\n", "y", ["a"], "no column besides the target"),
        ("a,y\n1,3\n2,4\n3,5\n", "y", [], "'y' is 3 in all examples (1) that are held out"),
        ("a,y\n1,3\n2,5\n3,5\n", "y", [], "'y' is 5 in all examples (2) that are trained on"),
        ("a,y\n1,u\n2,v\n3,v\n", "y", [], "the class u of 'y' is in none of the 2 examples that"),
        ("self,y\n1,u\n2,u\n3,v\n", "y", [], "an input is named 'self'"),
        ("logits,y\n1,u\n2,u\n3,v\n", "y", [], "an input is named 'logits', as the answer of the"),
        ("prediction,y\n1,3\n2,4\n", "y", [], "an input is named 'prediction', as the answer of"),
        ("a,y\n1000000001,3\n1000000002,4\n", "y", [], "'a' in houses lies between 1000000001 and"),
        ("a,y\n1,1000000001\n2,1000000002\n", "y", [], "'y' in houses lies between 1000000001 and"),
        ("a,y\n1e300,3\n2,4\n", "y", [], "'a' in houses holds numbers beyond float32"),
    ],
)
def test_what_nothing_can_be_learned_from(
    tmp_path: Path, text: str, target: str, drop: list[str], problem: str
) -> None:
    table = read_csv(write(tmp_path, text))
    with pytest.raises((UsageError, SourceError), match=re.escape(problem)):
        dataset(table, target, drop=drop)


def test_a_column_to_read_as_text_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"houses\.csv has no column 'floor'"):
        read_csv(write(tmp_path, HOUSES), categorical=["floor"])


@given(st.lists(st.text(max_size=6), min_size=1, max_size=5))
def test_code_points_come_back(texts: list[str]) -> None:
    codes = code_points(texts)
    assert codes.dtype == np.int32
    assert ["".join(map(chr, row[row >= 0])) for row in codes] == texts


@given(text=st.text(alphabet='a1,."\n -e', max_size=40))
def test_no_text_causes_another_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = write(tmp_path_factory.mktemp("csv"), text)
    try:
        table = read_csv(path)
        dataset(table, next(iter(table.columns)))
    except EdgeportError as e:
        assert e.remedy  # noqa: PT017  # that it is one is what is tested


@pytest.mark.parametrize(("name", "rows"), [("diabetes", 442), ("iris", 150), ("wine", 178)])
def test_bundled_tables(name: str, rows: int) -> None:
    data = (
        dataset(bundled_table(name), "target", how=Split(0.2, 42, stratified=True))
        if (name != "diabetes")
        else dataset(bundled_table(name), "target")
    )
    assert data.origin.examples == rows
    assert bool(data.origin.classes) == (name != "diabetes")
