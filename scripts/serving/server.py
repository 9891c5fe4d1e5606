"""A server in a process of its own: started, asked how it does, ended."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

START_S: Final = 120.0
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.

    Attributes:
        pid: Of its first process.
        port: Of HTTP, on 127.0.0.1.
        grpc_port: Of gRPC; ``None`` if it has none.
    """

    pid: int
    port: int
    grpc_port: int | None = None

    @property
    def http(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def grpc(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.grpc_port}"

    def cpu_s(self) -> float:
        """CPU time that its processes, those it started included, have taken so far."""
        return sum(sum(_ticks(pid)) * _TICK_S for pid in self.processes())

    def rss_bytes(self) -> int:
        """Memory that its processes hold, what they share counted in each."""
        pages = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * _PAGE_BYTES

    def processes(self) -> list[int]:
        """Its own number, and those of its descendants."""
        found = [self.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):
                    found.extend(map(int, task.read_text().split()))
        return found

    def get(self, path: str, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """Ask it over a connection of its own: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def terminate(self) -> None:
        """Send SIGTERM."""
        os.kill(self.pid, signal.SIGTERM)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@contextlib.contextmanager
def started(
    command: Sequence[str],
    port: int,
    grpc_port: int | None = None,
    *,
    ready: str = "/v2/health/ready",
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Iterator[Server]:
    """Start a server, wait until it is ready, and end it; it is killed if it does not end.

    Raises:
        RuntimeError: It ended, or was not ready in time.
    """
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env={**os.environ, **(environment or {})}
        )
        stack.callback(_end, process)
        server = Server(process.pid, port, grpc_port)
        deadline = time.monotonic() + START_S
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]}: not ready; exit code {process.returncode}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                if server.get(ready)[0] == 200:
                    break
            time.sleep(0.05)
        yield server


@contextlib.contextmanager
def edgeport(
    bundles: Sequence[Path],
    more: Sequence[str] = (),
    *,
    python: str,
    grpc: bool = False,
    log: Path | None = None,
) -> Iterator[Server]:
    """Serve bundles with ``edgeport serve``; ``more`` are further arguments of it."""
    port, grpc_port = free_port(), free_port() if grpc else None
    command = [python, "-m", "edgeport", "serve", *map(str, bundles), "--port", str(port)]
    if grpc_port is not None:
        command += ["--grpc-port", str(grpc_port)]
    with started([*command, *more], port, grpc_port, log=log) as server:
        yield server


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ticks(pid: int) -> list[int]:
    """Ticks in user and in system mode, of itself and of children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return [0]
    return [int(field) for field in fields[11:15]]  # proc(5): utime, stime, cutime, cstime
