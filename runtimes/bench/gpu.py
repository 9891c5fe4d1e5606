"""The GPU beside a benchmark: how it was doing in every round, where a call's time went on it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeport.runtimes.cuda.nvml import Gpu, GpuReading, Watch
from edgeport.runtimes.errors import EdgeportError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.session import Session
from edgeport.runtimes.timed_parts import TimesParts

from .disturbance import difference
from .loops import Durations

PARTS_SHARE: Final = 10
"""For so many timed calls of a round one more is made with events in it, and one at least."""

ENERGY_NS: Final = 2 * 10**9
"""A card updates its counter some ten times a second: what took less than this is not told."""


@dataclass(frozen=True, slots=True)
class Card:
    """The GPU that a session computes on.

    Attributes:
        gpu: What it is; ``None`` where NVML does not tell.
        unknown: Why not.
    """

    gpu: Gpu | None
    unknown: str | None = None


@dataclass(frozen=True, slots=True)
class GpuRound:
    """A GPU at both ends of a round.

    Attributes:
        before: Before the calls that settle it.
        after: Right after the last call.
        energy_mj: Of the whole card during the timed calls; ``None`` where it isn't told.
    """

    before: GpuReading
    after: GpuReading
    energy_mj: int | None


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single truth value
class GpuUse:
    """What a benchmark knows of the GPU of one variant.

    Attributes:
        card: Which it is.
        rounds: By process and round; empty where NVML does not tell.
        energy_uj_per_call: Of the whole card; ``None`` if it isn't told or too short.
        parts_ns: ``(calls, 4)``: copy in, compute, copy out by CUDA events, and the wall time of
            the same calls; ``None`` if the session can't tell.
    """

    card: Card
    rounds: tuple[tuple[GpuRound, ...], ...]
    energy_uj_per_call: float | None
    parts_ns: Durations | None

    @property
    def readings(self) -> list[GpuReading]:
        """At the end of every round, when the GPU was busy."""
        return [each.after for process in self.rounds for each in process]

    def range_of(self, name: str) -> tuple[int, int] | None:
        """The least and the most that a field of the readings was; ``None`` if it isn't told."""
        values = [getattr(reading, name) for reading in self.readings]
        known = [value for value in values if value is not None]
        return (min(known), max(known)) if known else None


class Gauge:
    """Reads the GPU of an open session, if it has one."""

    def __init__(self, session: Session) -> None:
        self.card: Card | None = None
        self._watch: Watch | None = None
        if not session.engine.device.startswith("cuda"):
            return
        try:
            self._watch = Watch(session.engine.device)
        except EdgeportError as e:
            self.card = Card(None, e.problem)
        else:
            self.card = Card(self._watch.gpu)

    def read(self) -> GpuReading | None:
        """Look at it now."""
        return None if self._watch is None else self._watch.read()

    def energy_mj(self) -> int | None:
        """Its counter."""
        return None if self._watch is None else self._watch.energy_mj()


def timed_parts(session: Session, inputs: Mapping[str, Array], calls: int) -> Durations | None:
    """Where the time of some calls goes, ``(calls, 4)``; ``None`` if the session can't tell."""
    if not isinstance(session, TimesParts):
        return None
    found = np.empty((max(1, calls // PARTS_SHARE), 4), np.int64)
    for row in found:
        start = time.perf_counter_ns()
        parts = session.timed_parts(inputs)
        wall_ns = time.perf_counter_ns() - start
        row[:] = parts.copy_in_ns, parts.compute_ns, parts.copy_out_ns, wall_ns
    return found


def gpu_round(
    before: GpuReading | None, after: GpuReading | None, energy: tuple[int | None, int | None]
) -> GpuRound | None:
    """What was read around a round; ``None`` without a GPU that can be read."""
    if before is None or after is None:
        return None
    return GpuRound(before, after, difference(*energy))


def energy_uj_per_call(
    rounds: Sequence[Sequence[GpuRound]], wall_ns: int, calls: int
) -> float | None:
    """Of the whole card.

    Args:
        rounds: By process.
        wall_ns: How long all timed calls took.
        calls: How many there were.
    """
    used = [each.energy_mj for process in rounds for each in process]
    known = [energy for energy in used if energy is not None]
    if not calls or wall_ns < ENERGY_NS or len(known) < len(used) or not known:
        return None
    return sum(known) * 1000 / calls
