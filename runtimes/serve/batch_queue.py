"""What waits for one model: how much it is, how long it will take, and which of it runs next."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .run_times import LONGEST_BATCH_S, RunTimes
from .work import Work


@dataclass(slots=True)
class Batch:
    """What runs together."""

    works: list[Work]
    rows: int
    size_bytes: int


class BatchQueue:
    """A queue that knows how much is in it.

    Args:
        most_rows: How many rows of different requests may run together; 1 for none.
        times: How long runs take.

    Attributes:
        rows: Of all that waits.
        size_bytes: Of all that waits.
        until_ns: When what runs before it will have ended; 0 where nothing does.
    """

    def __init__(self, most_rows: int, times: RunTimes) -> None:
        self.rows = 0
        self.size_bytes = 0
        self.until_ns = 0
        self._works: deque[Work] = deque()
        self._changes = 0  # how often one cannot run with the one before it
        self._most_rows = most_rows
        self._times = times

    def __bool__(self) -> bool:
        return bool(self._works)

    def wait_s(self, now_ns: int) -> float:
        """How long it will be until all of it has run, in as few runs as it may be."""
        times = self._times
        rows_s = self.size_bytes * times.byte_s
        runs = max(self._changes, -(-self.rows // self._most_rows), rows_s / LONGEST_BATCH_S)
        wait_s = runs * times.fixed_s + rows_s
        return wait_s + (self.until_ns - now_ns) / 1e9 if self.until_ns > now_ns else wait_s

    def add(self, work: Work) -> None:
        """It came last."""
        works = self._works
        work.joins = bool(works) and works[-1].key == work.key
        works.append(work)
        self.rows += work.rows
        self.size_bytes += work.size
        self._changes += not work.joins

    def remove_last(self) -> None:
        """What came last is not taken after all."""
        self._subtract(self._works.pop())

    def remove(self, work: Work) -> bool:
        """Nobody wants it any more. Whether it was still there."""
        try:
            self._works.remove(work)
        except ValueError:
            return False
        self._subtract(work)
        return True

    def take(self, now_ns: int) -> tuple[Batch, list[Work]]:
        """The next that may run together, in their order, and those who have waited too long."""
        waiting, most_rows = self._works, self._most_rows
        works, late = list[Work](), list[Work]()
        rows = size_bytes = 0
        most_bytes = 0.0
        while waiting and rows < most_rows:
            work = waiting[0]
            if work.deadline_ns < now_ns:
                late.append(work)
            elif not works:
                works.append(work)
                rows, size_bytes, most_bytes = work.rows, work.size, self._most_bytes(work, now_ns)
            elif (
                rows + work.rows <= most_rows
                and size_bytes + work.size <= most_bytes
                and work.key == works[0].key
            ):
                works.append(work)
                rows += work.rows
                size_bytes += work.size
            else:
                break
            self._changes -= not work.joins
            waiting.popleft()
        if waiting and waiting[0].joins:  # those who have gone
            waiting[0].joins = False
            self._changes += 1
        self.rows -= rows
        self.size_bytes -= size_bytes
        if late:
            self.rows -= sum(work.rows for work in late)
            self.size_bytes -= sum(work.size for work in late)
        return Batch(works, rows, size_bytes), late

    def take_late(self, now_ns: int) -> list[Work]:
        """Those who have waited too long."""
        late = [work for work in self._works if work.deadline_ns < now_ns]
        for work in late:
            self.remove(work)
        return late

    def _most_bytes(self, first: Work, now_ns: int) -> float:
        """Those who join the first must not make it late.

        If it will be late anyway, they may cost it as much as they save: the fixed part of a run.
        And no run is more than twice as large as any before.
        """
        times = self._times
        left_s = (first.deadline_ns - now_ns) / 1e9 - times.fixed_s
        alone_s = first.size * times.byte_s
        if left_s < alone_s:
            left_s = alone_s + times.fixed_s
        known = 2 * times.known_bytes
        return min(known, min(left_s, LONGEST_BATCH_S) / times.byte_s) if times.byte_s else known

    def _subtract(self, work: Work) -> None:
        self.rows -= work.rows
        self.size_bytes -= work.size
        self._changes -= not work.joins
