"""Worker processes, seen from the process that orders them: start, ask, end.

Each is a fresh interpreter, because two processes of one program differ by a stable 0.1 to 3 %
(addresses, caches, the pages they got), which no number of calls in one of them can show.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from edgeport.runtimes.cpus import available_cpus
from edgeport.runtimes.errors import EdgeportError, EngineError
from edgeport.runtimes.safety import fresh

from .orders import Finish, Open, Opened, Request
from .setting import Setting
from .workload import Workload

Reply = TypeVar("Reply")

_LIFE: Final = "from edgeport.runtimes.bench.worker import serve; serve({}, {})"


class Worker:
    """One process."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        now_ns = time.perf_counter_ns()
        # what an engine prints is no result of ours
        self._process, self._connection = fresh.started(_LIFE, now_ns, stdout=2)

    def send(self, request: Request) -> None:
        """Ask without waiting.

        Raises:
            EngineError: The process has died.
        """
        try:
            self._connection.send(request)
        except ConnectionError as e:
            raise self._died() from e

    def receive(self) -> Any:
        """Wait for the reply.

        Raises:
            EdgeportError: What the worker met; ``EngineError`` if it has died.
        """
        try:
            reply = self._connection.recv()
        except (EOFError, ConnectionError) as e:
            raise self._died() from e
        if isinstance(reply, EdgeportError):
            raise reply
        return reply

    def ask(self, request: Request, kind: type[Reply]) -> Reply:
        """Send a request and wait for its reply.

        Raises:
            EdgeportError: As ``send`` and ``receive``.
        """
        self.send(request)
        return cast(Reply, self.receive())

    def finish(self) -> int | None:
        """Close its session.

        Returns:
            The peak of its memory in bytes, if the system tells.

        Raises:
            EdgeportError: As ``ask``.
        """
        self.send(Finish())
        return cast("int | None", self.receive())

    def end(self) -> None:
        """End the process, whatever it is doing: it keeps nothing that anybody would miss."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _died(self) -> EngineError:
        how = fresh.ending(self._process.wait())
        return EngineError(
            f"the process that timed {self.setting.backend} on {self.setting.bundle} died: {how}",
            remedy="edgeport verify tells whether the artefact works on this machine; "
            "SIGKILL is often a lack of memory: try fewer settings at a time",
        )


@contextlib.contextmanager
def crew(
    settings: Sequence[Setting],
    workloads: Sequence[Workload],
    trusted: tuple[Path, ...] | None,
) -> Iterator[list[tuple[Worker, Opened]]]:
    """Start a process for every setting, one for every CPU at a time, and end them all in the end.

    Args:
        settings: One process each.
        workloads: That all of them make inputs for.
        trusted: As in ``Bundle.read``.

    Yields:
        The processes in the order of ``settings``, and what they opened.

    Raises:
        EdgeportError: A bundle cannot be opened or run; ``EngineError`` if a process died.
    """
    width = available_cpus()
    with contextlib.ExitStack() as stack:
        members: list[tuple[Worker, Opened]] = []
        for first in range(0, len(settings), width):
            batch = []
            for setting in settings[first : first + width]:
                worker = Worker(setting)
                stack.callback(worker.end)
                worker.send(Open(setting, tuple(workloads), trusted))
                batch.append(worker)
            members += [(worker, worker.receive()) for worker in batch]
        yield members
