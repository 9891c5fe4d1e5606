"""Where each command may write, and what it says of a place where it cannot."""

import os
from pathlib import Path

import numpy as np
import pytest
from hostile import moments

from edgeport.__main__ import main

FILES = {
    "kserve.yaml": ["emit", "kserve", "mlp.edge", "--storage-uri", "s3://a/b", "-o"],
    "app.py": ["emit", "ray", "mlp.edge", "-o"],
    "infer.py": ["embed", "mlp.edge", "-o"],
    "runner": ["build-runner", "mlp.edge", "-o"],
    "one.edge": ["pack", "mlp.edge", "--zip", "-o"],
    "answers.csv": ["predict", "mlp.edge", "--input", "in.npz", "-o"],
    "verify.json": ["verify", "mlp.edge", "--backend", "null", "--report"],
    "bench.html": ["bench", "mlp.edge", "--backend", "null", "--seconds", "0.05", "--report"],
}
FOLDERS = {
    "repository": ["emit", "triton", "mlp.edge", "-o"],
    "packed.edge": ["pack", "mlp.edge", "-o"],
}
each_file = pytest.mark.parametrize("name", FILES)
each = pytest.mark.parametrize("name", [*FILES, *FOLDERS])


@pytest.fixture(autouse=True)
def folder(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(packed.parent)
    np.savez("in.npz", x=np.zeros((2, 8), np.float32))
    return packed.parent


def refused(name: str, place: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What was said, in two lines, to a command that wrote nothing and ended with code 2."""
    before = moments(Path())
    capsys.readouterr()
    assert main([*(FILES | FOLDERS)[name], place]) == 2
    assert moments(Path()) == before
    out, err = capsys.readouterr()
    assert out == ""
    problem, remedy = err.splitlines()
    assert "  fix: " in remedy
    return problem


@each
def test_a_file_where_a_folder_is_needed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("old")
    for place in (f"file/{name}", f"file/deep/{name}"):
        assert "file is no folder, so file/" in refused(name, place, capsys)


@each
def test_a_name_that_is_too_long(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    place = Path(name).with_stem("x" * 300)
    assert "File name too long" in refused(name, str(place), capsys)


@pytest.mark.parametrize("inside", ["manifest.json", "model.onnx", "reports/verify.html"])
@pytest.mark.parametrize("name", ["answers.csv", "verify.json", "bench.html"])
def test_nothing_is_written_into_a_bundle_that_is_read(
    name: str, inside: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(name, f"mlp.edge/{inside}", capsys)
    assert "mlp.edge, " in told or "is neither .html nor .json" in told


def test_a_link_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("target").write_text("old")
    Path("answers.csv").symlink_to("target")
    assert main([*FILES["answers.csv"], "answers.csv"]) == 0
    assert not Path("answers.csv").is_symlink()
    assert Path("target").read_text() == "old"


@pytest.mark.parametrize("end", ["/", "/."])
@pytest.mark.parametrize("name", sorted(FILES.keys() - {"one.edge"}))
def test_a_place_that_is_written_as_a_folder(
    name: str, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = moments(Path())
    with pytest.raises(SystemExit, match="2"):
        main([*FILES[name], name + end])
    assert f"expected a file, got the folder '{name}{end}'" in capsys.readouterr().err
    assert moments(Path()) == before


@each
def test_a_way_out_of_a_folder_that_does_not_exist(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(name, f"new/../od/{name}", capsys)
    assert told == f"edgeport: new does not exist, so new/../od/{name} leads nowhere"
    assert not Path("new").exists()


@each_file
def test_a_folder_where_a_file_is_needed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(name).mkdir()
    told = refused(name, name, capsys)
    assert "exists already" in told or "is a folder, and a file is to be written there" in told


@pytest.mark.parametrize("place", ["file", "link"])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_where_the_folder_is_to_be(
    name: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("old")
    Path("link").symlink_to("nowhere")
    assert refused(name, place, capsys) == f"edgeport: {place} exists already"


def test_a_device_is_no_place_for_answers(capsys: pytest.CaptureFixture[str]) -> None:
    Path("device").symlink_to("/dev/null")  # root could replace what is not a link
    told = refused("answers.csv", "device", capsys)
    assert "device is no regular file" in told


@each
def test_folders_that_are_missing_are_made(name: str) -> None:
    assert main([*(FILES | FOLDERS)[name], f"a/b/{name}"]) in (0, 1)  # the null backend is wrong
    assert Path("a", "b", name).exists()


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_full_disk_is_told_and_left_as_it_was(
    name: str, full_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filler = full_disk / "filler"
    filler.write_bytes(b"x" * (os.statvfs(full_disk).f_bavail * 4096))
    capsys.readouterr()
    assert main([*(FILES | FOLDERS)[name], str(full_disk / "deep" / name)]) == 3
    assert "No space left on device\n  fix: choose another place, free some" in (
        capsys.readouterr().err
    )
    assert list(full_disk.iterdir()) == [filler]
