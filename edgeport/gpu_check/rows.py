"""What a step came to: one row of the report, and one line of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias, get_args

from edgeport.runtimes.errors import FormatError

Status = Literal["pass", "fail", "open", "unreached"]
"""``open``: it could not be had here, so nothing is known. ``unreached``: no time was left."""

Stage = Literal["engine", "parity", "command", "benchmark", "soak"]

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)

Key: TypeAlias = tuple[Stage, str, str]
"""Stage, model, backend. A command has its own name in the place of the model's; a benchmark is of
all backends at once, and names none."""


@dataclass(frozen=True, slots=True)
class Row:
    """A step.

    Attributes:
        model: Name of the bundle, or of the command.
        backend: Which engine; empty for a benchmark of all of them.
        reason: Why it is not ``pass``.
        remedy: What to do about it.
        seconds: That it took.
        figures: What was measured, as plain values.
    """

    stage: Stage
    model: str
    backend: str
    status: Status
    reason: str | None = None
    remedy: str | None = None
    seconds: float = 0.0
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """What it is a row of."""
        return self.stage, self.model, self.backend

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return asdict(self)


def row_of(told: object) -> Row:
    """Read what ``to_json`` wrote.

    Raises:
        FormatError: It is something else.
    """
    try:
        if not isinstance(told, dict):
            raise TypeError(f"a row is an object, not {told!r}")
        row = Row(**told)
        if row.stage not in STAGES or row.status not in get_args(Status):
            raise ValueError(f"there is no {row.stage!r} that is {row.status!r}")
    except (TypeError, ValueError) as e:
        raise FormatError(
            f"a line of the journal is no step: {e}", remedy="name another --output folder"
        ) from e
    return row
