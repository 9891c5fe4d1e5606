import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgeport.gpu_check.journal import JOURNAL, Journal
from edgeport.gpu_check.rows import Row
from edgeport.runtimes import ExistingFileError, FormatError, PlaceError, StorageError, UsageError

SUBJECT = {"gpu": "GPU-1", "models": {"a": "f" * 64, "b": "0" * 64}}
ROWS = [
    Row("parity", "a", "ort-cuda", "pass", seconds=1.5, figures={"ratio": 0.9}),
    Row("parity", "b", "ort-cuda", "fail", "it differs", "don't use it"),
]


def written(folder: Path) -> Path:
    journal = Journal(folder, SUBJECT)
    for row in ROWS:
        journal.add(row)
    journal.close()
    return folder / JOURNAL


def rows(folder: Path) -> list[Row]:
    journal = Journal(folder, SUBJECT)
    journal.close()
    return list(journal.rows.values())


def test_finished_steps_are_there_again(tmp_path: Path) -> None:
    written(tmp_path / "new" / "folder")
    assert rows(tmp_path / "new" / "folder") == ROWS


def test_a_line_that_was_cut_off_is_a_step_that_was_not_finished(tmp_path: Path) -> None:
    file = written(tmp_path)
    whole = file.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        assert rows(tmp_path) == ROWS[: max(0, sum(end <= cut for end in ends) - 1)]
    file.write_bytes(whole[:-5])
    journal = Journal(tmp_path, SUBJECT)
    journal.add(ROWS[1])
    journal.close()
    assert rows(tmp_path) == ROWS
    assert file.read_bytes() == whole


def test_another_machine_or_other_models_are_not_continued(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(UsageError, match=r"another check: gpu was 'GPU-1', now 'GPU-2'"):
        Journal(tmp_path, {**SUBJECT, "gpu": "GPU-2"})
    models = {"a": "f" * 64, "b": "1" * 64}
    with pytest.raises(UsageError, match=r"models were b 000000000000, now b 111111111111\n") as e:
        Journal(tmp_path, {**SUBJECT, "models": models})
    assert "another --output" in e.value.remedy
    with pytest.raises(UsageError, match="names more than this edgeport knows"):
        Journal(tmp_path, {"gpu": "GPU-1"})


OTHER = b'{"stage": "x", "model": "", "backend": "", "status": "pass"}'


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", b"1e999", b'{"stage": "parity"}', b"\xff", b'{"a": 1, "a": 2}', OTHER],
)
def test_a_damaged_line_is_refused(tmp_path: Path, line: bytes) -> None:
    file = written(tmp_path)
    file.write_bytes(file.read_bytes() + line + b"\n")
    with pytest.raises(FormatError, match=r"is damaged|is no step"):
        Journal(tmp_path, SUBJECT)


def test_a_journal_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b"[1]\n")
    with pytest.raises(UsageError, match="begins with something else"):
        Journal(tmp_path, SUBJECT)


def test_a_full_disk_loses_no_finished_step(full_disk: Path) -> None:
    journal = Journal(full_disk, SUBJECT)
    journal.add(ROWS[0])
    (full_disk / "filler").write_bytes(b"x" * (os.statvfs(full_disk).f_bavail * 4096))
    large = replace(ROWS[1], figures={"looks": ["x" * 100] * 1000})
    with pytest.raises(StorageError, match="cannot keep a step: No space left"):
        journal.add(large)
    journal.close()
    (full_disk / "filler").unlink()
    assert rows(full_disk)[0] == ROWS[0]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExistingFileError, match=r"file exists already"):
        Journal(tmp_path / "file", SUBJECT)
    with pytest.raises(PlaceError, match=r"file is no folder, so .*folder cannot be made in it"):
        Journal(tmp_path / "file" / "folder", SUBJECT)
