"""What the process that orders a benchmark asks of its workers, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from edgeport.runtimes.session import EngineInfo

from .disturbance import Disturbance
from .gpu import Card, GpuRound
from .loops import Durations
from .setting import Closed, OpenLoop, Paced, Peak, Setting
from .workload import Workload


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What a fresh process went through before it was warm, in ns.

    Attributes:
        python_ns: From the start of the process until Python, numpy and edgeport were there.
        import_ns: To import the engine.
        open_ns: To check the bundle's hashes and open the artefact.
        calls_ns: The first five calls.
    """

    python_ns: int
    import_ns: int
    open_ns: int
    calls_ns: tuple[int, ...]

    @property
    def first_answer_ns(self) -> int:
        """From the start of the process to the first answer."""
        return self.python_ns + self.import_ns + self.open_ns + self.calls_ns[0]


@dataclass(frozen=True, slots=True)
class Open:
    """Open the session, and make the inputs of every workload."""

    setting: Setting
    workloads: tuple[Workload, ...]
    trusted: tuple[Path, ...] | None


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of it.

    Attributes:
        engine: What is really in use.
        cold: The start, with the first workload.
        samples: The golden sample of each workload.
        shapes: Of the inputs, by name, for each workload.
        rows: That one call answers, for each workload.
        card: The GPU; ``None`` on a CPU.
    """

    engine: EngineInfo
    cold: ColdStart
    samples: tuple[str, ...]
    shapes: tuple[dict[str, tuple[int, ...]], ...]
    rows: tuple[int, ...]
    card: Card | None


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Call a workload until it is warm: see ``loops.warm_up``."""

    workload: int
    fewest: int
    time_ns: int
    most: int


@dataclass(frozen=True, slots=True)
class Round:
    """Time some calls of a workload in one mode, after ``settle_ns`` of calls that don't count."""

    workload: int
    mode: Closed | Paced | OpenLoop
    calls: int
    settle_ns: int
    seed: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single truth value
class Timed:
    """A round.

    Attributes:
        durations_ns: ``(calls,)``.
        disturbance: Of the timed part.
        energy_uj: Of the whole machine meanwhile; ``None`` where it cannot be read.
        gpu: At both ends; ``None`` without a GPU that can be read.
        parts_ns: ``(calls, 4)``, as in ``GpuUse``, of calls that followed the timed ones; ``None``
            if the session can't tell.
    """

    durations_ns: Durations
    disturbance: Disturbance
    energy_uj: int | None
    gpu: GpuRound | None = None
    parts_ns: Durations | None = None


@dataclass(frozen=True, slots=True)
class Seek:
    """Find the peak rate of a workload in a time."""

    workload: int
    mode: Peak
    time_ns: int
    seed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the session. The reply is the peak of the process's memory, in bytes."""


Request: TypeAlias = Open | WarmUp | Round | Seek | Finish
