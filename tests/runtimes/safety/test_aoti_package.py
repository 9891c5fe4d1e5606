import errno
import io
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hostile import zipped

from edgeport.runtimes import StorageError
from edgeport.runtimes.safety import aoti_package
from edgeport.runtimes.safety.aoti_package import (
    CALLS,
    FOLDER,
    LIBRARY,
    METADATA,
    check_aoti,
    unpacked,
)

WHOLE = {
    f"m/{FOLDER}/{LIBRARY}": b"\x7fELF" * 1000,
    f"m/{FOLDER}/{CALLS}": b"{}",
    f"m/{FOLDER}/{METADATA}": b"{}",
    "m/extra/edgeport.signature.json": b"s",
    "m/extra/edgeport.target.json": b"t",
    "m/archive_format": b"pt2",
    "m/.data/version": b"3",
}


def check(data: bytes) -> None:
    check_aoti(io.BytesIO(data), len(data))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files are."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "m.aoti"
    file.write_bytes(zipped(WHOLE))
    return file


def test_what_is_used_is_unpacked_for_a_while(file: Path, place: Path) -> None:
    with unpacked(file, "m") as library:
        assert library.is_relative_to(place)
        assert library.parent.stat().st_mode & 0o777 == 0o700
        found = {each.name: each.read_bytes() for each in library.parent.iterdir()}
        assert found == {
            LIBRARY: b"\x7fELF" * 1000,
            CALLS: b"{}",
            METADATA: b"{}",
            "edgeport.signature.json": b"s",
            "edgeport.target.json": b"t",
        }
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m/../outside.so", "not in one folder"),
        ("elsewhere/x", "not in one folder"),
        (f"m/{FOLDER}/other.so", "which edgeport does not write"),
        (f"m/{FOLDER}/custom_obj_0", "which edgeport does not write"),
        (f"m/{FOLDER}/deeper/{LIBRARY}", "which edgeport does not write"),
        ("m/data/aotinductor/second/model.wrapper.so", "which edgeport does not write"),
        (f"m/extra/{LIBRARY}", "which edgeport does not write"),
        ("m/extra/edgeport./../x.json", "not in one folder"),
        ("m/data/sample_inputs/model.pt", "which edgeport does not write"),
        ("m/models/model.json", "which edgeport does not write"),
    ],
)
def test_what_edgeport_does_not_write_is_refused(name: str, message: str) -> None:
    check(zipped(WHOLE))
    with pytest.raises(ValueError, match=message):
        check(zipped({**WHOLE, name: b"x"}))


def test_compressed_members_and_no_library_are_refused() -> None:
    with pytest.raises(ValueError, match="is compressed, which torch never does"):
        check(zipped(WHOLE, zipfile.ZIP_DEFLATED))
    with pytest.raises(ValueError, match="it holds no library"):
        check(zipped({"m/archive_format": b"pt2"}))
    for damaged in (b"", b"no zip file", zipped(WHOLE)[:-5]):
        with pytest.raises(ValueError, match="it is no zip file"):
            check(damaged)


def test_a_full_disk_is_told_and_nothing_is_left(
    file: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(aoti_package, "_copy", copy)
    with (
        pytest.raises(StorageError, match=r"cannot unpack m in .*: No space left") as caught,
        unpacked(file, "m"),
    ):
        pass
    assert caught.value.remedy.startswith("set TMPDIR")
    assert list(place.iterdir()) == []


def test_places_without_room_or_where_nothing_runs_are_passed_over(
    file: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(place)

    class Found:
        f_bavail, f_frsize, f_flag = real.f_bavail, real.f_frsize, real.f_flag | os.ST_NOEXEC

    monkeypatch.setattr(os, "statvfs", lambda _: Found)
    with (
        pytest.raises(StorageError, match=r"neither .*temporary nor /dev/shm has \d+ bytes free"),
        unpacked(file, "m"),
    ):
        pass
    monkeypatch.setattr(Found, "f_flag", 0)
    monkeypatch.setattr(Found, "f_bavail", 0)
    with pytest.raises(StorageError, match="lets programs run"), unpacked(file, "m"):
        pass


def test_what_the_block_raises_is_its_own(file: Path, place: Path) -> None:
    with pytest.raises(OSError, match=r"^mine$"), unpacked(file, "m"):
        raise OSError("mine")
    assert list(place.iterdir()) == []
