from pathlib import Path

import numpy as np
import pytest

from edgeport.commands.sample_files import read_labels, read_samples
from edgeport.runtimes import EdgeportError, FormatError, MissingFileError, SourceError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_files_folders_and_arrays_in_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", x=X, y=X[:1])
    archives, arrays = tmp_path / "archives", tmp_path / "arrays"
    archives.mkdir()
    arrays.mkdir()
    for number in (2, 1):
        np.savez(archives / f"{number}.npz", x=X * number)
    (archives / "notes.txt").write_text("not a sample")
    np.save(arrays / "hx.0.npy", X + 1)
    np.save(arrays / "x.npy", X)
    found, names = read_samples([tmp_path / "one.npz", archives, arrays])
    assert [list(sample) for sample in found] == [["x", "y"], ["x"], ["x"], ["hx.0", "x"]]
    own = [tmp_path / "one.npz", archives / "1.npz", archives / "2.npz", arrays]
    assert names == [str(path) for path in own]
    np.testing.assert_array_equal(found[1]["x"], X)
    np.testing.assert_array_equal(found[2]["x"], 2 * X)
    np.testing.assert_array_equal(found[3]["hx.0"], X + 1)
    np.save(tmp_path / "labels.npy", [1, 2])
    assert read_labels(tmp_path / "labels.npy").tolist() == [1, 2]


def test_names_can_be_printed(tmp_path: Path) -> None:
    np.savez(tmp_path / "a\u3000b.npz", x=X)
    assert read_samples([tmp_path])[1] == [rf"{tmp_path}/a\u3000b.npz"]


@pytest.mark.parametrize(
    ("make", "error", "problem"),
    [
        ("", MissingFileError, "no such file"),
        ("folder", SourceError, r"holds no \.npz or \.npy file"),
        ("both", SourceError, r"holds both \.npz and \.npy files"),
        ("text", FormatError, r"is not an \.npz of plain arrays"),
        ("array", FormatError, "it is one array, without a name"),
        ("objects", FormatError, r"holds an array of Python objects"),
    ],
)
def test_what_holds_no_samples(
    tmp_path: Path, make: str, error: type[EdgeportError], problem: str
) -> None:
    path = tmp_path / "given"
    if make in ("folder", "both"):
        path.mkdir()
    if make == "both":
        np.savez(path / "a.npz", x=X)
        np.save(path / "x.npy", X)
    if make == "text":
        path.write_text("x")
    if make == "array":
        with path.open("wb") as file:
            np.save(file, X)
    if make == "objects":
        with path.open("wb") as file:
            np.savez(file, x=np.array([{}], dtype=object))
    with pytest.raises(error, match=problem):
        read_samples([path])


def test_what_holds_no_labels(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        read_labels(tmp_path / "labels.npy")
    np.savez(tmp_path / "labels.npz", a=X)
    with pytest.raises(FormatError, match=r"is not an \.npy of a plain array: it is an archive"):
        read_labels(tmp_path / "labels.npz")
