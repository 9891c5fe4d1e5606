"""What has happened to each model, in memory that all processes of a server share.

So any process can answer for all of them, what a dead one counted stays counted, and the process
that watches over them sees which model was running when one died.
"""

import mmap
import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

MOST_MODELS: Final = 256
"""Versions of models that one server can count; a slot is 4 kB, and untouched ones cost nothing."""

MOST_BATCH: Final = 128
"""Batches of more rows than this are counted together."""

BOUNDS_S: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
    10.0,
)
"""Upper ends of the latency histogram's buckets, in seconds; one more is without an end."""

_BOUNDS_NS: Final = tuple(round(bound * 1e9) for bound in BOUNDS_S)

# What a slot holds: 64-bit integers. RUNNING is when a run began, time.monotonic_ns(), or 0.
RUNNING, OPENING, QUEUED_ROWS, QUEUED_BYTES = range(4)
SUCCESS, SUCCESS_NS, FAILED, FAILED_NS, QUEUE_NS, INFER_NS = range(4, 10)
ROWS, EXECUTIONS, SHED, EXPIRED, LEFT, REJECTED, LAST_MS = range(10, 17)
LATENCY: Final = 24
BATCHES: Final = LATENCY + len(BOUNDS_S) + 1
BATCH_NS: Final = BATCHES + MOST_BATCH + 2
SLOT: Final = 512

_GAUGES: Final = (RUNNING, OPENING, QUEUED_ROWS, QUEUED_BYTES)


class Counters:
    """One process's counters of one model: a row of integers."""

    __slots__ = ("_cells",)

    def __init__(self, cells: "memoryview[int]") -> None:
        self._cells = cells

    def add(self, index: int, amount: int = 1) -> None:
        """Count something."""
        self._cells[index] += amount

    def set(self, index: int, value: int) -> None:
        """Write a gauge."""
        self._cells[index] = value

    def observe(self, latency_ns: int) -> None:
        """Count one answer in the histogram."""
        self._cells[LATENCY + bisect_left(_BOUNDS_NS, latency_ns)] += 1

    def batch(self, rows: int, duration_ns: int) -> None:
        """Count one execution."""
        index = min(rows, MOST_BATCH + 1)
        self._cells[EXECUTIONS] += 1
        self._cells[ROWS] += rows
        self._cells[INFER_NS] += duration_ns
        self._cells[BATCHES + index] += 1
        self._cells[BATCH_NS + index] += duration_ns


class Board:
    """The counters of every process and model. Made before the processes are forked."""

    def __init__(self, processes: int = 1) -> None:
        """Reserve shared memory.

        Args:
            processes: How many will count.
        """
        self._processes = processes
        self._memory = mmap.mmap(-1, processes * MOST_MODELS * SLOT * 8)
        self._cells = memoryview(self._memory).cast("q")

    def counters(self, process: int, slot: int) -> Counters:
        """Where one process counts one model."""
        return Counters(self._row(process, slot))

    def total(self, slot: int) -> Sequence[int]:
        """What all processes counted of one model."""
        rows = [self._row(process, slot).tolist() for process in range(self._processes)]
        total = [sum(column) for column in zip(*rows, strict=True)]
        total[LAST_MS] = max(row[LAST_MS] for row in rows)
        return total

    def busy(self, process: int) -> list[int]:
        """Slots of the models that a process was running or opening, when it wrote last."""
        return [
            slot
            for slot in range(MOST_MODELS)
            if (row := self._row(process, slot))[RUNNING] or row[OPENING]
        ]

    def overdue(self, process: int, longest_s: float) -> dict[int, float]:
        """Slots of the models whose run has taken longer, and how many seconds it has."""
        now_ns = time.monotonic_ns()
        since_ns = {slot: self._row(process, slot)[RUNNING] for slot in range(MOST_MODELS)}
        ran_s = {slot: (now_ns - since) / 1e9 for slot, since in since_ns.items() if since}
        return {slot: seconds for slot, seconds in ran_s.items() if seconds > longest_s}

    def forget_gauges(self, process: int) -> None:
        """A process has died: nothing waits in it any more."""
        for slot in range(MOST_MODELS):
            row = self._row(process, slot)
            for gauge in _GAUGES:
                if row[gauge]:
                    row[gauge] = 0

    def _row(self, process: int, slot: int) -> "memoryview[int]":
        start = (process * MOST_MODELS + slot) * SLOT
        return self._cells[start : start + SLOT]
