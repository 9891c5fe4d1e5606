"""Files as the inputs of a model: every number is the one that is written there."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgeport.commands.raw_input import read
from edgeport.runtimes import (
    BackendMissingError,
    FormatError,
    InputError,
    Range,
    Signature,
    TensorSpec,
    UsageError,
)
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.text import decode


def inputs(path: Path, spec: TensorSpec) -> Array:
    (found,) = read(path, Signature((spec,), ()))
    assert len(found.rows) == len(found.inputs[spec.name])
    return found.inputs[spec.name]


def column(folder: Path, dtype: str, *values: str) -> Array:
    path = folder / "a.csv"
    path.write_text("\n".join(["a", *(f'"{value}"' for value in values)]))
    return inputs(path, TensorSpec("a", dtype, ("batch",)))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_integers_are_exact(tmp_path_factory: pytest.TempPathFactory, values: list[int]) -> None:
    found = column(tmp_path_factory.mktemp("a"), "int64", *map(str, values))
    assert found.dtype == np.int64
    assert found.tolist() == values


@pytest.mark.parametrize(
    ("dtype", "texts", "values"),
    [
        ("uint8", ["0", "255", "3.0", "1e2", " 7 "], [0, 255, 3, 100, 7]),
        ("bool", ["0", "1", "1.0"], [False, True, True]),
        ("float32", ["3.4028235e+38", "-1e-50", "2"], [np.finfo(np.float32).max, 0, 2]),
        ("float16", ["65504"], [65504]),
    ],
)
def test_numbers_that_a_type_holds(
    tmp_path: Path, dtype: str, texts: list[str], values: list[Any]
) -> None:
    found = column(tmp_path, dtype, *texts)
    assert found.dtype == dtype
    assert found.tolist() == values


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        ("uint8", "256", "an integer from 0 to 255"),
        ("uint8", "-1", "an integer from 0 to 255"),
        ("int8", "1.5", "an integer from -128 to 127"),
        ("int64", "9223372036854775808", "an integer from -9223372036854775808 to"),
        ("int64", "nan", "an integer from"),
        ("int64", "inf", "an integer from"),
        ("int64", "", "an integer from"),
        ("bool", "2", "an integer from 0 to 1"),
        ("bool", "true", "an integer from 0 to 1"),
        ("float16", "65520", "a number that float16 can hold"),
        ("float32", "1e39", "a number that float32 can hold"),
        ("float64", "1e999", "a number that float64 can hold"),
        ("float32", "1" * 400, "a number that float32 can hold"),
        ("float32", "1_0", "a number that float32 can hold"),
        ("int64", "1_0", "an integer from"),
        ("float32", "one", "a number that float32 can hold"),
    ],
)
def test_numbers_that_it_does_not(tmp_path: Path, dtype: str, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=f"line 3: 'a' is '{text}', expected {expected}"):
        column(tmp_path, dtype, "1", text)


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_ends_where_a_file_says_so(tmp_path: Path, start: str, end: str) -> None:
    texts = ["one\u2028two", "three\x85\x0cfour", "", "five"]
    path = tmp_path / "a.txt"
    for last in ("", end):
        path.write_bytes((start + end.join(texts) + last).encode())
        assert decode(inputs(path, TensorSpec("t", "int32", ("batch", "characters")))) == texts


def test_white_space_is_part_of_a_text_and_not_of_a_category(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('t\n one \n"two\r\n"\n', newline="")
    text = Signature((TensorSpec("t", "int32", ("batch", "characters")),), ())
    (found,) = read(path, text)
    assert decode(found.inputs["t"]) == [" one ", "two\r\n"]
    (found,) = read(path, text, {"t": ["one", "two"]})
    assert decode(found.inputs["t"]) == ["one", "two"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_a_long_text_makes_no_thousand_rows_as_long(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    texts = ["short", "x" * 2**18, *["short"] * 98]
    path.write_text("\n".join(["t", *texts] if name == "a.csv" else texts))
    text = Signature((TensorSpec("t", "int32", ("batch", "characters")),), ())
    parts = [raw.inputs["t"] for raw in read(path, text)]
    assert max(part.size for part in parts) <= 2**22
    assert [text for part in parts for text in decode(part)] == texts


def test_a_file_of_nothing_has_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.touch()
    text = TensorSpec("t", "int32", ("batch", "characters"))
    assert list(read(path, Signature((text,), ()))) == []


@pytest.mark.parametrize(
    ("first", "allowed", "rows", "parts"),
    [
        ("batch", Range(), 2000, [1000, 1000]),
        ("batch", Range(1, 64), 100, [50, 50]),
        ("batch", Range(8, 64, step=8), 72, [32, 40]),
        ("batch", Range(8, 64, step=8), 30, [30]),  # which the session refuses
        (5, None, 10, [5, 5]),
        (5, None, 7, [7]),
    ],
)
def test_rows_are_cut_into_batches_that_the_model_takes(
    tmp_path: Path, first: int | str, allowed: Range | None, rows: int, parts: list[int]
) -> None:
    x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    np.savez(tmp_path / "x.npz", x=x)
    (tmp_path / "x.csv").write_text("\n".join(["x", *map(str, range(rows))]))
    ranges = {} if allowed is None else {"batch": allowed}
    for name, shape in (("x.npz", (first, 3)), ("x.csv", (first,))):
        found = [
            *read(tmp_path / name, Signature((TensorSpec("x", "float32", shape),), (), ranges))
        ]
        assert [len(raw.inputs["x"]) for raw in found] == parts
        assert [row for raw in found for row in raw.rows] == [str(n + 1) for n in range(rows)]
        whole = np.concatenate([raw.inputs["x"] for raw in found])
        assert (whole == (x if name == "x.npz" else np.arange(rows))).all()


def test_floats_of_an_archive_are_rounded_as_for_a_training(tmp_path: Path) -> None:
    signature = Signature((TensorSpec("x", "float32", ("batch",)),), (), {})
    np.savez(tmp_path / "x.npz", x=np.array([0.1, 2.0]))
    (raw,) = read(tmp_path / "x.npz", signature)
    assert raw.inputs["x"].dtype == np.float32
    np.savez(tmp_path / "x.npz", x=np.array([1e39, 2.0]))
    with pytest.raises(InputError, match="holds 1e\\+39, and float32 ends at"):
        list(read(tmp_path / "x.npz", signature))


def test_where_images_go_is_told_of_what_is_like_one(tmp_path: Path) -> None:
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    spec = TensorSpec("x", "float32", ("batch", 3, 9, 9))
    with pytest.raises(UsageError, match=r"npz; images go into uint8\[batch, height, width, 3\]$"):
        list(read(tmp_path / "a.png", Signature((spec,), ())))


def test_arrays_of_an_archive_have_as_many_rows(tmp_path: Path) -> None:
    specs = tuple(TensorSpec(name, "float32", ("batch",)) for name in "xy")
    np.savez(tmp_path / "xy.npz", x=np.zeros(2, np.float32), y=np.zeros(3, np.float32))
    with pytest.raises(
        InputError, match=r"xy\.npz have not as many rows each: x has 2, y has 3\n  fix: give"
    ):
        list(read(tmp_path / "xy.npz", Signature(specs, ())))


def test_rows_are_cut_where_each_array_has_them(tmp_path: Path) -> None:
    specs = (
        TensorSpec("state", "float32", (2, "batch", 1)),
        TensorSpec("x", "float32", ("batch", "time")),
        TensorSpec("scale", "float32", (3,)),
    )
    state, x, scale = np.arange(8).reshape(2, 4, 1), np.arange(20).reshape(4, 5), np.arange(3)
    np.savez(tmp_path / "a.npz", state=state * 1.0, x=x * 1.0, scale=scale * 1.0)
    first, second = read(tmp_path / "a.npz", Signature(specs, (), {"batch": Range(1, 2)}))
    assert (first.rows, second.rows) == (("1", "2"), ("3", "4"))
    np.testing.assert_array_equal(first.inputs["state"], state[:, :2])
    np.testing.assert_array_equal(second.inputs["state"], state[:, 2:])
    np.testing.assert_array_equal(second.inputs["x"], x[2:])
    np.testing.assert_array_equal(second.inputs["scale"], scale)


def test_an_array_alone_is_the_only_input(tmp_path: Path) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "any.npy", x)
    spec = TensorSpec("x", "float32", ("batch", 3))
    np.testing.assert_array_equal(inputs(tmp_path / "any.npy", spec), x)
    with pytest.raises(
        UsageError,
        match=r"x: float32\[batch, 3\], y: float32\[batch\], not one array\n  fix: give an .npz",
    ):
        list(
            read(
                tmp_path / "any.npy", Signature((spec, TensorSpec("y", "float32", ("batch",))), ())
            )
        )


def test_images_of_folders_in_a_folder_and_none_that_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".c").mkdir()
    for name in ("a/b/2.PNG", "a/b/._2.PNG", ".c/3.png", "1.png", "a/4.txt"):
        Image.new("RGB", (2, 2)).save(tmp_path / name, "png")
    signature = Signature((TensorSpec("image", "uint8", ("batch", 2, 2, 3)),), (), {})
    assert [raw.rows for raw in read(tmp_path, signature)] == [("1.png",), ("a/b/2.PNG",)]


@pytest.mark.parametrize(
    ("spec", "names", "remedy"),
    [
        (TensorSpec("x", "float32", ("batch", 1, 8, 8)), "a.csv a.txt a.png", ".npy or .npz"),
        (TensorSpec("x", "float32", ("batch",)), "a.txt a.png", ".csv or .npy or .npz"),
        (
            TensorSpec("x", "int32", ("batch", "characters")),
            "a.png",
            ".txt or .csv or .npy or .npz",
        ),
        (
            TensorSpec("x", "uint8", ("batch", "height", "width", 3)),
            "a.csv a.txt",
            "an image or a folder of images or .npy or .npz",
        ),
    ],
)
def test_files_that_the_model_takes_are_named(
    tmp_path: Path, spec: TensorSpec, names: str, remedy: str
) -> None:
    """Each remedy was one that the next error refused: .csv, then an image, then .npz."""
    for name in names.split():
        (tmp_path / name).write_text("x\n1\n")
        problem = (
            rf"x: {spec.dtype}\[.*\](, not | is no column of a table).*\n"
            rf"  fix: give {remedy}(; images go into .*)?$"
        )
        with pytest.raises(UsageError, match=problem):
            inputs(tmp_path / name, spec)


def test_lines_that_are_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\n")
    with pytest.raises(FormatError, match=r"a\.txt is not UTF-8: .*\n  fix: save it as UTF-8"):
        inputs(tmp_path / "a.txt", TensorSpec("t", "int32", ("batch", "characters")))


def test_an_image_that_cannot_be_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TensorSpec("image", "uint8", ("batch", "height", "width", 3))
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(FormatError, match=r"a\.png cannot be read as an image: .*\n  fix: remove"):
        inputs(tmp_path / "a.png", spec)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(BackendMissingError, match="images are decoded by Pillow, which is not in"):
        inputs(tmp_path / "a.png", spec)


@pytest.mark.parametrize(
    ("spec", "content", "found"),
    [
        (TensorSpec("a", "float32", ("batch",)), "b,a\n1,2\n3,4\n", [2, 4]),
        (TensorSpec("text", "int32", ("batch", "characters")), "hi, you\nme\n", ["hi, you", "me"]),
    ],
)
def test_what_comes_in_is_a_table_or_lines_of_text(
    tmp_path: Path, spec: TensorSpec, content: str, found: list[Any]
) -> None:
    path = tmp_path / "sent"
    path.write_text(content)
    reader, writer = os.pipe()
    os.write(writer, content.encode())
    os.close(writer)
    for file in (os.open(path, os.O_RDONLY), reader):
        with what_comes_in(file):
            (raw,) = read(Path("-"), Signature((spec,), ()))
        array = raw.inputs[spec.name]
        assert (decode(array) if array.ndim == 2 else array.tolist()) == found


def test_what_comes_in_without_an_end_is_not_kept() -> None:
    message = "more than 64.0 MiB came in\n  fix: save it in a file, and name that"
    with (
        what_comes_in(os.open("/dev/zero", os.O_RDONLY)),
        pytest.raises(InputError, match=message),
    ):
        read(Path("-"), Signature((TensorSpec("a", "float32", ("batch",)),), ()))


@contextmanager
def what_comes_in(file: int) -> Iterator[None]:
    before = os.dup(0)
    try:
        os.dup2(file, 0)
        os.close(file)
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
