"""What a server has to bear: each trial starts one, ill-treats it, and judges what it did."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from scripts.serving.load import Outcome, closed_loop, open_loop
from scripts.serving.malformed import outcomes
from scripts.serving.reference import Reference
from scripts.serving.server import Server
from scripts.serving.wire import Requests, requests

HEALTH_S: Final = 0.05
"""How quickly health has to be answered, always."""

Start = Callable[[Path], AbstractContextManager[Server]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure and its bar."""

    trial: str
    what: str
    figure: str
    bar: str
    good: bool


class Health:
    """Asks for health again and again over new connections, from a thread."""

    def __init__(self, server: Server) -> None:
        self._server, self._stop = server, threading.Event()
        self.longest_s, self.failures, self.count = 0.0, 0, 0
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Health":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.1):
            start = time.perf_counter()
            try:
                status = self._server.get("/v2/health/live")[0]
            except OSError:
                status = 0
            self.longest_s = max(self.longest_s, time.perf_counter() - start)
            self.failures += status != 200
            self.count += 1

    def finding(self, trial: str) -> Finding:
        """Whether each was answered in time."""
        text = f"{self.longest_s * 1e3:.1f} ms, {self.failures} of {self.count} failed"
        good = self.longest_s <= HEALTH_S and not self.failures
        return Finding(trial, "slowest health", text, f"{HEALTH_S * 1e3:.0f} ms", good)


def malformed(start: Start, models: Path) -> Iterator[Finding]:
    """Requests that are wrong in more than a hundred ways; a good one after each."""
    path = models / "mlp.edge"
    reference = Reference(path)
    sent = requests("json", reference, 1)
    with start(path) as server:
        before = server.processes()
        count, wrong, hurt = 0, [], 0
        for name, found, good in outcomes(server, reference.name):
            count += 1
            if not good:
                wrong.append(f"{name}: {found}")
            hurt += not _answers(server, sent)
        same = server.processes() == before
    for text in wrong:
        yield Finding("malformed", text, "", "4xx", False)
    yield Finding("malformed", "refused as they should be", f"{count - len(wrong)} of {count}",
                  "all of 100 or more", not wrong and count >= 100)  # fmt: skip
    yield Finding("malformed", "good requests after them that failed", str(hurt), "0", not hurt)
    yield Finding("malformed", "same processes", str(same), "True", same)


def half_open(start: Start, models: Path, count: int = 400) -> Iterator[Finding]:
    """Clients that begin a request and never end it; the others go on."""
    path = models / "mlp.edge"
    sent = requests("json", Reference(path))
    with start(path) as server:
        alone = closed_loop(server.port, sent, 8, 3)
        held = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(count)]
        if server.grpc_port is not None:
            held += [
                socket.create_connection(("127.0.0.1", server.grpc_port), 10) for _ in range(count)
            ]
        for index, wire in enumerate(held):
            wire.sendall((b"POST /v2/models/mlp/infer HT", b"PRI * HTT")[index >= count])
        began = time.monotonic()
        with Health(server) as health:
            beside = closed_loop(server.port, sent, 8, 3)
        for wire in held:
            wire.settimeout(60)
            while wire.recv(4096):
                pass
        closed_s = time.monotonic() - began
    yield health.finding("half-open")
    share = beside.right_per_s / alone.right_per_s
    text = f"{share:.0%}, {beside.wrong} wrong, {_lost(beside)} lost"
    good = share > 0.5 and not beside.wrong and not _lost(beside)
    yield Finding("half-open", "rate of others beside them", text, "50 %, all right", good)
    yield Finding("half-open", f"all {len(held)} closed after", f"{closed_s:.0f} s", "60 s", True)


def sigterm(start: Start, models: Path, runs: int = 10, clients: int = 32) -> Iterator[Finding]:
    """The server ends while all clients are busy."""
    path = models / "mlp.edge"
    sent = requests("binary", Reference(path))
    lost = answered = 0
    for _ in range(runs):
        with start(path) as server:
            timer = threading.Timer(1.0, server.terminate)
            timer.start()
            outcome = closed_loop(server.port, sent, clients, 3)
            timer.join()
        lost += _lost(outcome) + outcome.wrong
        answered += len(outcome.latencies_ns)
    text = f"{lost} of {answered + lost:,} in {runs} runs"
    yield Finding("sigterm", "replies lost", text, "0", not lost)


def aborted(start: Start, models: Path, count: int = 50) -> Iterator[Finding]:
    """Clients that leave before their answer: what waits for them is not computed."""
    path = models / "slow.edge"
    reference = Reference(path)
    sent = requests("binary", reference, 1)
    with start(path) as server:
        wires = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(count)]
        for wire in wires:
            wire.sendall(sent.sent[0])
        for wire in wires:
            wire.close()
        time.sleep(3)
        rows = _counted(server, reference.name)
    most = 10  # a batch takes 0.1 s at the most: one of 5 in flight, one that was made meanwhile
    yield Finding("aborted", f"rows computed of {count}", str(rows), str(most), rows <= most)


def overload(
    start: Start, models: Path, seconds: float = 30, times: float = 4
) -> Iterator[Finding]:
    """Four times what it can do, of a model that takes about 20 ms."""
    path = models / "slow.edge"
    sent = requests("binary", Reference(path), 8)
    with start(path) as server:
        capacity = closed_loop(server.port, sent, 8, 10).right_per_s
        with Health(server) as health:
            outcome = open_loop(server.port, sent, times * capacity, seconds, 256)
        time.sleep(1)
        cpu_s = server.cpu_s()
        time.sleep(1)
        idle_s = server.cpu_s() - cpu_s
    share = outcome.right_per_s / capacity
    yield Finding("overload", "capacity", f"{capacity:.1f}/s", "", True)
    yield Finding("overload", "good replies", f"{share:.1%} of it", "95 %", share >= 0.95)
    p99 = outcome.latency_ms(99)
    yield Finding("overload", "p99 of good ones", f"{p99:.0f} ms", "queue: 1 s", p99 <= 1100)
    yield health.finding("overload")
    yield Finding("overload", "answers", _statuses(outcome), "200, 503, 504", set(
        outcome.statuses) <= {200, 503, 504} and not outcome.wrong)  # fmt: skip
    yield Finding("overload", "CPU in the second after", f"{idle_s:.2f} s", "0.1 s", idle_s < 0.1)


def soak(start: Start, models: Path, count: int = 1_000_000) -> Iterator[Finding]:
    """A great many requests, JSON and binary; does memory grow?"""
    path = models / "mlp.edge"
    reference = Reference(path)
    forms = [requests(form, reference) for form in ("json", "binary")]
    done, bad, sizes = 0, 0, []
    with start(path) as server:
        while done < count:
            for sent in forms:
                outcome = closed_loop(server.port, sent, 32, 2)
                done += len(outcome.latencies_ns)
                bad += outcome.wrong + sum(n for s, n in outcome.statuses.items() if s != 200)
            sizes.append((done, server.rss_bytes()))
    low, slope, high = _slope(np.array(sizes[len(sizes) // 5 :], np.float64))
    text = f"{slope:+.2f} bytes a request ({low:+.2f} to {high:+.2f})"
    yield Finding("soak", "requests", f"{done:,}", f"{count:,}", done >= count)
    yield Finding("soak", "wrong, refused or lost", str(bad), "0", not bad)
    grown = (sizes[-1][1] - sizes[len(sizes) // 5][1]) / 2**20
    yield Finding("soak", "memory at the end", f"{sizes[-1][1] / 2**20:.1f} MiB ({grown:+.1f})",
                  "", True)  # fmt: skip
    yield Finding("soak", "slope of memory", text, "0 within its interval, or below 0.5",
                  low <= 0 or slope < 0.5)  # fmt: skip


TRIALS: Final = {
    "malformed": malformed,
    "half-open": half_open,
    "sigterm": sigterm,
    "aborted": aborted,
    "overload": overload,
    "soak": soak,
}


def _slope(points: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float, float]:
    """Least squares with 95 %; rather too narrow, for figures that follow each other are alike."""
    x, y = points[:, 0] - points[:, 0].mean(), points[:, 1] - points[:, 1].mean()
    slope = float((x * y).sum() / (x * x).sum())
    rest = y - slope * x
    error = float(np.sqrt((rest * rest).sum() / max(len(x) - 2, 1) / (x * x).sum()))
    return slope - 2 * error, slope, slope + 2 * error


def _answers(server: Server, sent: Requests) -> bool:
    with socket.create_connection(("127.0.0.1", server.port), 10) as wire:
        wire.sendall(sent.sent[0])
        data = b""
        while b"\r\n\r\n" not in data or not data.endswith(b"}"):
            part = wire.recv(65_536)
            if not part:
                return False
            data += part
    head, _, body = data.partition(b"\r\n\r\n")
    return head.startswith(b"HTTP/1.1 200") and sent.is_right(0, head, body)


def _counted(server: Server, model: str) -> int:
    found = json.loads(server.get(f"/v2/models/{model}/stats")[1])
    return int(found["model_stats"][0]["inference_count"])


def _lost(outcome: Outcome) -> int:
    return outcome.statuses[0]


def _statuses(outcome: Outcome) -> str:
    return ", ".join(f"{status}: {n:,}" for status, n in sorted(outcome.statuses.items()))
