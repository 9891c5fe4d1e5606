"""Finished steps on disk, so that a check that was cut off goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edgeport.runtimes import files
from edgeport.runtimes.errors import FormatError, StorageError, UsageError
from edgeport.runtimes.formats import strict_json

from .rows import Key, Row, row_of

JOURNAL: Final = "steps.jsonl"


class Journal:
    """A line for what is checked, and one for each finished step.

    Args:
        folder: Made if it isn't there.
        subject: What is checked: GPU, driver, versions, models. A journal of something else is
            not continued.

    Raises:
        UsageError: The folder holds the steps of another machine, of other models or versions.
        ExistingFileError: There is something else than a folder.
        FormatError: Its journal is damaged.
        StorageError: It cannot be read or written.
    """

    def __init__(self, folder: Path, subject: Mapping[str, Any]) -> None:
        self.rows: dict[Key, Row] = {}
        path = folder / JOURNAL
        if not folder.is_dir():
            files.refuse_existing(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            whole = self._read(path, subject) if path.exists() else 0
            self._file = path.open("r+b" if path.exists() else "xb", buffering=0)
            self._file.truncate(whole)  # a last line that was cut off
            self._file.seek(whole)
        except OSError as e:
            raise StorageError(
                f"cannot keep steps in {folder}: {e.strerror or e}", remedy="name another --output"
            ) from e
        if not whole:
            self._append(dict(subject))

    def add(self, row: Row) -> None:
        """Keep a finished step.

        Raises:
            StorageError: The disk is full.
        """
        self.rows[row.key] = row
        self._append(row.to_json())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _append(self, told: Mapping[str, Any]) -> None:
        try:
            left = json.dumps(told, allow_nan=False).encode() + b"\n"
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError as e:
            raise StorageError(
                f"cannot keep a step: {e.strerror or e}", remedy="make room on the disk"
            ) from e

    def _read(self, path: Path, subject: Mapping[str, Any]) -> int:
        """Read whole lines; the number of bytes that they take."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].splitlines()
        if not lines:
            return 0
        try:
            before, *told = [strict_json.parse(line) for line in lines]
        except ValueError as e:
            raise FormatError(
                f"{path} is damaged: {e}", remedy="name another --output folder"
            ) from e
        if before != subject:
            raise UsageError(
                f"{path.parent} holds the steps of another check: {_difference(before, subject)}",
                remedy="name another --output folder, or the same models on the same machine",
            )
        self.rows = {row.key: row for row in map(row_of, told)}
        return whole


def _difference(before: object, subject: Mapping[str, Any]) -> str:
    if not isinstance(before, dict):
        return "it begins with something else"
    for name, new in subject.items():
        old = before.get(name)
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            old, new = ({key: each.get(key) for key in keys} for each in (old, new))
            return f"{name} were {_short(old)}, now {_short(new)}"
        if old != new:
            return f"{name} was {old!r}, now {new!r}"
    return "it names more than this edgeport knows"


def _short(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {str(value)[:12]}" for key, value in told.items())
