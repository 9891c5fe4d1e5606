"""What else went on while a round was timed: the reasons not to believe it.

Readings cost some 50 us and are taken outside the timed loop.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CLEAN_SHARE: Final = 0.02
"""A round is clean if less than this share of its time was taken from it."""

_STAT: Final = Path("/proc/stat")
_PRESSURE: Final = Path("/proc/pressure/cpu")
_NS_PER_TICK: Final = 10**9 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Readings over one round.

    Attributes:
        wall_ns: How long the round took.
        cpu_ns: CPU time of the whole process, all threads.
        thread_ns: CPU time of the thread that called.
        involuntary: How often the kernel took the CPU from a thread of the process.
        voluntary: How often a thread waited for something.
        steal_ns: Time that the hypervisor gave to others, per CPU; ``None`` where it isn't told.
        pressure_ns: Time in which some runnable task of the machine waited for a CPU
            (https://docs.kernel.org/accounting/psi.html); ``None`` where it isn't told.
    """

    wall_ns: int
    cpu_ns: int
    thread_ns: int
    involuntary: int
    voluntary: int
    steal_ns: int | None
    pressure_ns: int | None

    def lost_share(self, *, waits: bool) -> float:
        """The share of the round that was taken from it, as far as can be seen.

        Args:
            waits: Whether the calling thread may wait by itself: for the schedule or for other
                threads of the engine. Then its CPU time says nothing.
        """
        lost = [self.steal_ns or 0]
        if waits:
            lost.append(self.pressure_ns or 0)
        else:
            lost.append(self.wall_ns - self.thread_ns)
        return max(lost) / max(self.wall_ns, 1)


@dataclass(frozen=True, slots=True)
class Reading(Disturbance):
    """The counters of this moment: the same figures, since each of them began to count."""

    @classmethod
    def now(cls) -> Reading:
        """Read them."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        steal_ns, pressure_ns = _steal_ns(), _pressure_ns()
        return cls(
            wall_ns=time.perf_counter_ns(),
            cpu_ns=time.process_time_ns(),
            thread_ns=time.thread_time_ns(),
            involuntary=used.ru_nivcsw,
            voluntary=used.ru_nvcsw,
            steal_ns=steal_ns,
            pressure_ns=pressure_ns,
        )

    def until(self, later: Reading) -> Disturbance:
        """What happened from here to a later reading."""
        return Disturbance(
            wall_ns=later.wall_ns - self.wall_ns,
            cpu_ns=later.cpu_ns - self.cpu_ns,
            thread_ns=later.thread_ns - self.thread_ns,
            involuntary=later.involuntary - self.involuntary,
            voluntary=later.voluntary - self.voluntary,
            steal_ns=difference(self.steal_ns, later.steal_ns),
            pressure_ns=difference(self.pressure_ns, later.pressure_ns),
        )


def difference(before: int | None, later: int | None) -> int | None:
    """How far a counter went; ``None`` where it isn't told."""
    return None if before is None or later is None else later - before


def _steal_ns() -> int | None:
    """Of a CPU on average: ``cpu user nice system idle iowait irq softirq steal ...``, in ticks."""
    try:
        with _STAT.open("rb") as file:
            fields = file.readline().split()
        return int(fields[8]) * _NS_PER_TICK // (os.cpu_count() or 1)
    except (OSError, IndexError, ValueError):
        return None


def _pressure_ns() -> int | None:
    """``some avg10=0.00 avg60=0.00 avg300=0.00 total=12345``, in microseconds."""
    try:
        with _PRESSURE.open("rb") as file:
            return int(file.readline().rpartition(b"total=")[2]) * 1000
    except (OSError, ValueError):
        return None
