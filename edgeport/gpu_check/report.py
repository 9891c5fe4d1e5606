"""What a check came to, as a value, as JSON and as a page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from edgeport.runtimes import files

from .machine import Machine
from .models import Model, Unread
from .page import page
from .rows import STAGES, Row, Status

VERSION: Final = 1

_WORDS: Final[dict[Status, str]] = {
    "pass": "passed", "fail": "FAILED", "open": "open", "unreached": "not reached",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found.

    Attributes:
        machine: That was checked.
        models: With what.
        unread: Bundles that could not be read.
        rows: In the order of the stages.
        minutes: That were given.
        interrupted: Whether somebody had enough of it.
        written_at: UTC.
    """

    machine: Machine
    models: tuple[Model, ...]
    unread: tuple[Unread, ...]
    rows: tuple[Row, ...]
    minutes: float
    interrupted: bool
    written_at: str

    @classmethod
    def of(
        cls,
        machine: Machine,
        models: Sequence[Model],
        unread: Sequence[Unread],
        rows: Sequence[Row],
        minutes: float,
        interrupted: bool,
    ) -> Report:
        """Gather it now."""
        names = [model.name for model in models]
        ordered = sorted(
            rows,
            key=lambda r: (
                STAGES.index(r.stage), names.index(r.model) if r.model in names else -1, r.backend
            ),
        )  # fmt: skip
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(machine, tuple(models), tuple(unread), tuple(ordered), minutes, interrupted, now)

    @property
    def exit_code(self) -> int:
        """0 if something passed and nothing failed, 1 if something failed, 3 if nothing ran."""
        counted = Counter(row.status for row in self.rows)
        if counted["fail"] or self.unread:
            return 1
        return 0 if counted["pass"] else 3

    @property
    def summary(self) -> str:
        """In a few lines."""
        counted = Counter((row.stage, row.status) for row in self.rows)
        lines = ["a rehearsal on the CPU: it says nothing about a GPU"] * self.machine.rehearsal
        for stage in STAGES:
            told = [
                f"{counted[stage, status]} {word}"
                for status, word in _WORDS.items()
                if counted[stage, status]
            ]
            lines += [f"{stage}: {', '.join(told)}"] if told else []
        for row in self.rows:
            if row.status == "fail":
                who = " on ".join(filter(None, (row.model, row.backend)))
                lines.append(f"FAILED {row.stage} of {who}: {row.reason}\n  fix: {row.remedy}")
        lines += [f"not read: {each.name}: {each.reason}" for each in self.unread]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``; the schema is versioned."""
        return {
            "gpu_check_version": VERSION,
            "rehearsal": self.machine.rehearsal,
            "written_at": self.written_at,
            "minutes": self.minutes,
            "interrupted": self.interrupted,
            "machine": self.machine.to_json(),
            "models": [
                {
                    "name": model.name,
                    "backends": list(model.backends),
                    "size_bytes": model.size_bytes,
                    "manifest_sha256": model.digest,
                }
                for model in self.models
            ],
            "unread": [asdict(each) for each in self.unread],
            "rows": [row.to_json() for row in self.rows],
        }

    def write(self, folder: Path) -> list[Path]:
        """Write the page and the JSON; a rehearsal's are called so.

        Raises:
            StorageError: They cannot be written.
        """
        told = self.to_json()
        name = "rehearsal-report" if self.machine.rehearsal else "gpu-report"
        written = [folder / f"{name}.html", folder / f"{name}.json"]
        texts = [page(told), json.dumps(told, allow_nan=False) + "\n"]
        for path, text in zip(written, texts, strict=True):
            files.write(path, text)
        return written
