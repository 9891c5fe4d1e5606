import os
import zipfile
from pathlib import Path

import pytest

from edgeport import runtimes
from edgeport.runtimes import Bundle, FormatError, MissingFileError, Options
from edgeport.runtimes.bundles.container import Folder, Zip, container
from edgeport.runtimes.bundles.packing import pack
from edgeport.runtimes.errors import PlaceError


@pytest.fixture
def one_file(packed: Path) -> Path:
    path = packed.with_name("one.edge")
    pack(packed, path, zipped=True)
    return path


def test_a_folder_and_a_zip_file_hold_the_same(packed: Path, one_file: Path) -> None:
    folder, one = container(packed), container(one_file)
    assert isinstance(folder, Folder)
    assert isinstance(one, Zip)
    for name in ("manifest.json", "model.onnx", "golden.safetensors"):
        assert name in folder
        assert name in one
        with folder.open(name) as (a, a_bytes), one.open(name) as (b, b_bytes):
            assert a_bytes == b_bytes
            assert a.read(a_bytes) == b.read(b_bytes)
        assert one.place(name) == one_file / name
    assert "absent" not in folder
    assert "absent" not in one
    with pytest.raises(MissingFileError, match=r"one\.edge/absent is missing\n  fix: copy the"):
        one.open("absent").__enter__()


def test_a_zip_file_opens_everywhere(one_file: Path) -> None:
    bundle = Bundle.read(one_file)
    bundle.check_files()
    assert runtimes.verify(bundle, ["ort-cpu"], threads=1).passed
    with runtimes.open(one_file, threads=1) as session:
        assert session.engine.backend == "ort-cpu"
    with bundle.open("null", Options(threads=1)) as session:
        assert session.engine.backend == "null"


def test_nothing_is_unpacked(one_file: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    with runtimes.open(one_file, threads=1):
        assert sorted(tmp_path.rglob("*")) == before


def test_what_is_compressed_is_refused(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "deflated.edge"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(packed / "manifest.json", "manifest.json")
    with pytest.raises(
        FormatError,
        match=r"deflated\.edge is not a bundle: 'manifest\.json' is compressed, which a bundle's "
        r"files are not\n  fix: copy it again; make one: edgeport pack FOLDER --zip -o NAME\.edge$",
    ):
        container(path)


def test_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no such bundle: .*gone\n  fix: check the path"):
        container(tmp_path / "gone")


def test_a_link_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(MissingFileError, match=r"no such bundle: .*/link, a link to gone\n"):
        container(tmp_path / "link")


def test_a_name_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(
        PlaceError, match=r"cannot read .*n: File name too long\n  fix: check the p"
    ):
        container(tmp_path / ("n" * 300))


@pytest.mark.parametrize("place", ["pipe", "/dev/zero"])
def test_what_is_neither_a_folder_nor_a_file(tmp_path: Path, place: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="is not a bundle: it is neither a folder nor a file"):
        container(tmp_path / place)
