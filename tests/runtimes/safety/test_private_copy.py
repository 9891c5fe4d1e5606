import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from handmade import stored

from edgeport.runtimes import IntegrityError, OutOfMemoryError, StorageError
from edgeport.runtimes.bundles.container import Folder, Zip
from edgeport.runtimes.safety import private_copy as module
from edgeport.runtimes.safety.private_copy import check, copy, private_copy, read, steady


@pytest.mark.parametrize("size", [0, 1, module._CHUNK_BYTES, 3 * module._CHUNK_BYTES + 7])
def test_what_is_handed_over_is_what_was_hashed(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    file = stored(tmp_path, "a", data)
    check(Folder(tmp_path), file)
    assert read(Folder(tmp_path), file) == data
    with private_copy(Folder(tmp_path), [file]) as path:
        (tmp_path / "a").write_bytes(b"another")
        assert path.read_bytes() == data
    assert not path.exists()


@pytest.mark.parametrize("change", [lambda d: d + b"x", lambda d: d[:-1], lambda d: b"X" + d[1:]])
def test_another_file(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    file = stored(tmp_path, "a", b"data")
    (tmp_path / "a").write_bytes(change(b"data"))
    taken: list[bytes] = []
    for call in (
        lambda: check(Folder(tmp_path), file),
        lambda: read(Folder(tmp_path), file),
        lambda: private_copy(Folder(tmp_path), [file]).__enter__(),
        lambda: steady(Folder(tmp_path), [file]).__enter__(),
        lambda: copy(Folder(tmp_path), file, lambda chunk: taken.append(bytes(chunk))),
    ):
        with pytest.raises(
            IntegrityError, match=r"/a is not the file that was packed: its size or"
        ):
            call()


def test_a_file_that_nobody_writes_to_is_opened_where_it_is(tmp_path: Path) -> None:
    file = stored(tmp_path, "a", b"data")
    with steady(Folder(tmp_path), [file]) as path:
        assert path.samefile(tmp_path / "a")
        assert path.read_bytes() == b"data"
    (tmp_path / "a").write_bytes(b"more")  # the lease is given up


def test_whoever_writes_meanwhile_waits_and_is_told_of(tmp_path: Path) -> None:
    file = stored(tmp_path, "a", b"data")

    def hold() -> None:
        with steady(Folder(tmp_path), [file]) as path:
            with pytest.raises(BlockingIOError):
                os.open(tmp_path / "a", os.O_WRONLY | os.O_NONBLOCK)
            assert path.read_bytes() == b"data"

    with pytest.raises(IntegrityError, match=r"/a was about to be written to .*\n  fix: open it a"):
        hold()
    with steady(Folder(tmp_path), [file]) as path:
        assert path.samefile(tmp_path / "a")


def test_what_somebody_waits_to_write_to_is_not_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who began to wait during the hash would cut it off later, while it is mapped."""
    file = stored(tmp_path, "a", b"data")
    compare = module._compare

    def interrupted(*args: Any) -> None:
        compare(*args)
        with pytest.raises(BlockingIOError):
            os.open(tmp_path / "a", os.O_WRONLY | os.O_NONBLOCK)

    monkeypatch.setattr(module, "_compare", interrupted)
    with pytest.raises(IntegrityError, match=r"/a was about to be written to"):
        steady(Folder(tmp_path), [file]).__enter__()


def test_without_a_lease_there_is_a_copy(tmp_path: Path) -> None:
    """A file that is open for writing; a member of a zip file; files beside it."""
    file = stored(tmp_path, "a", b"data")
    with (tmp_path / "a").open("r+b") as writer, steady(Folder(tmp_path), [file]) as path:
        writer.write(b"else")
        writer.flush()
        assert path.read_bytes() == b"data"
    files = [stored(tmp_path, "p/m.onnx", b"model"), stored(tmp_path, "p/m.data", b"weights")]
    with steady(Folder(tmp_path), files) as path:
        assert path.with_name("m.data").read_bytes() == b"weights"
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("m.onnx", b"model")
    with steady(Zip(tmp_path / "z"), [replace(files[0], file="m.onnx")]) as path:
        assert path.read_bytes() == b"model"


def test_files_that_lead_to_one_another_stay_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [stored(tmp_path, "p/m.onnx", b"model"), stored(tmp_path, "p/m.data", b"weights")]
    for shared in (True, False):
        if not shared:
            monkeypatch.setattr(os, "access", lambda *_: False)
            monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        with private_copy(Folder(tmp_path), files) as path:
            assert path.name == "m.onnx"
            assert path.with_name("m.data").read_bytes() == b"weights"
            assert path.parents[1].stat().st_mode & 0o777 == 0o700
            assert path.is_relative_to(tmp_path) is not shared
        assert not path.parents[1].exists()


def test_there_is_not_enough_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stored(tmp_path, "a", b"12345")
    monkeypatch.setattr(module, "free_memory_bytes", lambda: 4)
    for call in (
        lambda: read(Folder(tmp_path), file),
        lambda: private_copy(Folder(tmp_path), [file]).__enter__(),
        lambda: steady(Folder(tmp_path), [file]).__enter__(),
    ):
        with pytest.raises(
            OutOfMemoryError,
            match=r"/a has 0\.0 GiB, and 0\.0 GiB of memory are free\n  fix: use a",
        ):
            call()
    with pytest.raises(IntegrityError, match="its size or sha256 differs"):  # and not the memory
        read(Folder(tmp_path), replace(file, size_bytes=10**18))
    monkeypatch.setattr(module, "free_memory_bytes", lambda: None)
    assert read(Folder(tmp_path), file) == b"12345"


def test_a_copy_that_cannot_be_written(
    tmp_path: Path, full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [stored(tmp_path, "a", bytes(2**20)), stored(tmp_path, "b", b"")]
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(full_disk))
    with pytest.raises(
        StorageError, match=r"cannot copy .*/a to a private place: No space .*\n  fix: free some"
    ):
        private_copy(Folder(tmp_path), files).__enter__()
    assert list(full_disk.iterdir()) == []


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path: Path) -> None:
    file = stored(tmp_path, "a", bytes(2 * module._CHUNK_BYTES))
    with pytest.raises(IntegrityError, match="is not the file that was packed"):
        copy(Folder(tmp_path), file, lambda _: os.truncate(tmp_path / "a", 10))


def test_free_memory_is_told() -> None:
    free = module.free_memory_bytes()
    assert free is not None
    assert free > 2**20
