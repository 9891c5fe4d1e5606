"""Load over HTTP/1.1 from one process: as fast as the answers come, or at random times.

Closed loop: each connection sends as soon as it has its answer. Open loop: requests are due at
the times of a Poisson process, whatever the server does, and latency counts from when a request
was due: one that waits for a free connection is late already.
"""

import asyncio
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

import numpy as np
import uvloop

from scripts.serving.wire import Requests

_LENGTH: Final = b"content-length:"
GIVE_UP_S: Final = 30.0
"""How long answers are waited for after the last request."""

_SPIN_PER_S: Final = 500
"""From here on the open loop keeps a CPU busy: timers count in milliseconds, and would come late
by more than an answer takes. Below, that matters less than leaving the CPU to the server."""


@dataclass(slots=True)
class Outcome:
    """What came of a load.

    Attributes:
        latencies_ns: Of right answers.
        wrong: Answers of status 200 that differ from the reference.
        statuses: Answers by status; 0 for a connection that was closed or an answer that never
            came.
        seconds: From the first request to the last answer.
    """

    latencies_ns: "array[int]" = field(default_factory=lambda: array("q"))
    wrong: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def right_per_s(self) -> float:
        """Right answers a second."""
        return len(self.latencies_ns) / self.seconds

    def latency_ms(self, percent: float) -> float:
        """A percentile; NaN without a right answer."""
        found = np.frombuffer(self.latencies_ns, np.int64)
        return float(np.percentile(found, percent)) / 1e6 if found.size else float("nan")


class Source(Protocol):
    """Says what a free connection is to send, and hears of its answer."""

    def free(self, connection: "Connection") -> None: ...


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, requests: Requests, outcome: Outcome, source: Source) -> None:
        self._requests, self._outcome, self._source = requests, outcome, source
        self._buffer = b""
        self._index = self._due_ns = 0
        self.waiting = False
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, index: int, due_ns: int) -> None:
        """Send request ``index``; its latency counts from ``due_ns``."""
        self._index, self._due_ns, self.waiting = index, due_ns, True
        self.transport.write(self._requests.sent[index])

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0 or len(data) < end + 4 + _body_bytes(data[:end]):
            self._buffer = data
            return
        self._buffer = b""
        self._answered(data[:end], data[end + 4 :])
        if b"Connection: close" in data[:end]:  # asked to go: another request could be lost
            self.closed = True
        else:
            self._source.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.waiting:
            self._outcome.statuses[0] += 1
            self.waiting = False

    def _answered(self, head: bytes, body: bytes) -> None:
        now_ns = time.perf_counter_ns()
        self.waiting = False
        status = int(head[9:12])
        self._outcome.statuses[status] += 1
        if status == 200:
            if self._requests.is_right(self._index, head, body):
                self._outcome.latencies_ns.append(now_ns - self._due_ns)
            else:
                self._outcome.wrong += 1


class _Closed:
    """Sends again at once, until it is time to stop."""

    def __init__(self, count: int, stop_ns: int) -> None:
        self._count, self._stop_ns, self._next = count, stop_ns, 0

    def free(self, connection: Connection) -> None:
        now_ns = time.perf_counter_ns()
        if now_ns < self._stop_ns:
            self._next = (self._next + 1) % self._count
            connection.send(self._next, now_ns)


class _Open:
    """Gives what is due to whoever is free."""

    def __init__(self, count: int) -> None:
        self._count, self._next = count, 0
        self.free_ones: deque[Connection] = deque()
        self.due: deque[int] = deque()

    def free(self, connection: Connection) -> None:
        self.free_ones.append(connection)
        self.give()

    def give(self) -> None:
        while self.due and self.free_ones:
            connection = self.free_ones.popleft()
            if not connection.closed:
                self._next = (self._next + 1) % self._count
                connection.send(self._next, self.due.popleft())


def closed_loop(port: int, requests: Requests, connections: int, seconds: float) -> Outcome:
    """Ask over so many connections at once."""
    return uvloop.run(_closed_loop(port, requests, connections, seconds))


def open_loop(
    port: int, requests: Requests, per_s: float, seconds: float, connections: int, seed: int = 0
) -> Outcome:
    """Ask at the times of a Poisson process, over at most so many connections."""
    return uvloop.run(_open_loop(port, requests, per_s, seconds, connections, seed))


async def _closed_loop(port: int, requests: Requests, count: int, seconds: float) -> Outcome:
    outcome = Outcome()
    start_ns = time.perf_counter_ns()
    source = _Closed(len(requests.sent), start_ns + int(seconds * 1e9))
    connections = await _connect(port, requests, outcome, source, count)
    start_ns = time.perf_counter_ns()
    for connection in connections:
        source.free(connection)
    await asyncio.sleep(seconds)
    await _finish(connections, outcome)
    outcome.seconds = (time.perf_counter_ns() - start_ns) / 1e9
    return outcome


async def _open_loop(
    port: int, requests: Requests, per_s: float, seconds: float, count: int, seed: int
) -> Outcome:
    outcome, source = Outcome(), _Open(len(requests.sent))
    connections = await _connect(port, requests, outcome, source, count)
    source.free_ones.extend(connections)
    gaps = np.random.default_rng(seed).exponential(1e9 / per_s, int(per_s * seconds * 1.2) + 10)
    start_ns = time.perf_counter_ns()
    times = deque(time_ns for time_ns in (start_ns + gaps.cumsum()).astype(int).tolist())
    stop_ns = start_ns + int(seconds * 1e9)
    while times and times[0] < stop_ns:
        now_ns = time.perf_counter_ns()
        while times and times[0] <= now_ns:
            source.due.append(times.popleft())
        source.give()
        ahead_s = (times[0] - now_ns) / 1e9 if times else 0.0
        if per_s >= _SPIN_PER_S:
            ahead_s = 0.0
        await asyncio.sleep(ahead_s)
    deadline = time.monotonic() + GIVE_UP_S
    while source.due and time.monotonic() < deadline:
        await asyncio.sleep(0.001)
    if source.due:
        outcome.statuses[0] += len(source.due)
    await _finish(connections, outcome)
    outcome.seconds = (time.perf_counter_ns() - start_ns) / 1e9
    return outcome


async def _connect(
    port: int, requests: Requests, outcome: Outcome, source: Source, count: int
) -> list[Connection]:
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(count):
        _, connection = await loop.create_connection(
            lambda: Connection(requests, outcome, source), "127.0.0.1", port
        )
        made.append(connection)
    return made


async def _finish(connections: list[Connection], outcome: Outcome) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while any(each.waiting for each in connections) and time.monotonic() < deadline:
        await asyncio.sleep(0.001)
    for each in connections:
        each.transport.abort()
    await asyncio.sleep(0)


_known: dict[bytes, int] = {}


def _body_bytes(head: bytes) -> int:
    if head not in _known:
        for line in head.lower().split(b"\r\n"):
            if line.startswith(_LENGTH):
                if len(_known) > 10_000:
                    _known.clear()
                _known[head] = int(line[len(_LENGTH) :])
                break
        else:
            raise ValueError(f"no Content-Length in {head!r}")
    return _known[head]
