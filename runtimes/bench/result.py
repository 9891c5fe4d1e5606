"""What a benchmark found: figures, conditions and every raw duration, as a value and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from edgeport.runtimes.formats.records import to_json
from edgeport.runtimes.session import EngineInfo

from .compared import Comparison
from .disturbance import Disturbance
from .environment import Environment
from .gpu import GpuUse
from .loops import Durations
from .orders import ColdStart
from .peak import PeakFound
from .setting import Mode
from .statistics import Interval, Percentile

BENCH_VERSION: Final = 2


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single truth value
class Latency:
    """What one variant did.

    Attributes:
        label: What sets it apart from the other variants.
        bundle: The name of the model.
        manifest_sha256: Of the bundle's manifest, which holds the hashes of all files.
        file: The artefact that it opened, in the bundle.
        sha256: Of that file.
        engine: What was really in use.
        spinning: Whether idle threads look for work in a busy loop.
        engine_only: Whether the engine's own call was timed, without the session around it.
        sample: The golden sample whose inputs were timed.
        shapes: Of the inputs, by name.
        rows: That one call answers.
        percentiles: 50, 90 and 99, of all calls; one that has too few calls has no value.
        clean: The same, of the rounds that were left in peace.
        clean_share: Share of the rounds that were.
        rows_per_s: Rows divided by the mean time of a call; ``None`` where calls don't follow one
            another, and the mode decides the rate.
        cpu_ns_per_call: CPU time of the whole process, all threads, divided by the calls.
        energy_uj_per_call: Of the whole machine; ``None`` where it cannot be read.
        peak_memory_bytes: The largest resident set of its processes; ``None`` where it isn't told.
        cold_starts: Of its processes.
        times_fastest: How many times longer than the fastest variant, round by round.
        peak_hz: The highest rate, for the mode that seeks it; ``None`` if no rate kept the bound.
        peaks: What each process found, for that mode.
        doubts: Reasons not to believe the figures.
        gpu: That it computed on, and how that was doing; ``None`` on a CPU.
        warmup_ns: By process, calls that are not counted.
        rounds_ns: ``(processes, rounds, calls)``. The same round of all variants was measured
            together.
        disturbances: By process and round.
    """

    label: str
    bundle: str
    manifest_sha256: str
    file: str
    sha256: str
    engine: EngineInfo
    spinning: bool
    engine_only: bool
    sample: str
    shapes: Mapping[str, tuple[int, ...]]
    rows: int
    percentiles: tuple[Percentile, ...]
    clean: tuple[Percentile, ...]
    clean_share: float | None
    rows_per_s: float | None
    cpu_ns_per_call: float | None
    energy_uj_per_call: float | None
    peak_memory_bytes: int | None
    cold_starts: tuple[ColdStart, ...]
    times_fastest: Interval | None
    peak_hz: Interval | None
    peaks: tuple[PeakFound, ...]
    doubts: tuple[str, ...]
    gpu: GpuUse | None
    warmup_ns: tuple[Durations, ...]
    rounds_ns: NDArray[np.int64]
    disturbances: tuple[tuple[Disturbance, ...], ...]

    DERIVED: ClassVar = ("backend", "calls")

    @property
    def backend(self) -> str:
        """Of the engine."""
        return self.engine.backend

    @property
    def calls(self) -> int:
        """How many calls were counted."""
        return self.rounds_ns.size

    @property
    def median_ns(self) -> float | None:
        """The median of all calls, unless it is withheld."""
        for percentile in self.percentiles:
            if percentile.percent == 50 and percentile.latency_ns is not None:
                return percentile.latency_ns.value
        return None


@dataclass(frozen=True, slots=True)
class Unusable:
    """A backend that fits a bundle and cannot be used here."""

    backend: str
    reason: str | None
    remedy: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A benchmark of one or more bundles.

    Attributes:
        mode: How the calls followed one another.
        seed: Of the order within rounds, the arrivals and the intervals.
        budget_s: What was asked; ``elapsed_s`` is what it took with the starts of processes.
        processes: Fresh ones of every variant.
        variants: Fastest first.
        comparisons: Of pairs, with a verdict.
        unusable: Backends that were left out.
        doubts: Reasons not to believe the figures, of the whole.
    """

    mode: Mode
    seed: int
    budget_s: float
    elapsed_s: float
    processes: int
    environment: Environment
    variants: tuple[Latency, ...]
    comparisons: tuple[Comparison, ...]
    unusable: tuple[Unusable, ...]
    doubts: tuple[str, ...]

    @property
    def rounds(self) -> int:
        """How many rounds were measured in every process."""
        return int(self.variants[0].rounds_ns.shape[1])

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``; the schema is versioned."""
        return {
            "bench_version": BENCH_VERSION,
            "rounds": self.rounds,
            **to_json(self),
            "mode": str(self.mode),
        }
