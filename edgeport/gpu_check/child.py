"""A process of its own for what may crash, hang, or leave a GPU's context broken."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from typing import Any, Final, TypeAlias

from edgeport.runtimes.errors import EdgeportError, EngineError, StorageError
from edgeport.runtimes.safety import fresh

from .tasks import Task

Figures: TypeAlias = dict[str, Any]

_LIFE: Final = "from edgeport.gpu_check.work import serve; serve({})"
_TAIL_BYTES: Final = 2000
_END_S: Final = 10


class LateError(EngineError):
    """There was no answer in time."""

    @classmethod
    def of(cls, who: str) -> LateError:
        """The error for something that was ended."""
        return cls(
            f"{who} was ended, because it took too long",
            remedy="run this model alone with edgeport verify to see where it hangs",
        )


class Child:
    """One process. It is asked one thing at a time.

    Raises:
        StorageError: There is no place for what it prints.
    """

    def __init__(self) -> None:
        try:
            self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end)
        except OSError as e:
            raise StorageError(
                f"cannot make a temporary file: {e.strerror or e}",
                remedy="make room on the disk, or name another place: TMPDIR",
            ) from e
        self._process, self.connection = fresh.started(_LIFE, stdout=self._said, stderr=self._said)

    def send(self, task: Task) -> None:
        """Ask without waiting.

        Raises:
            EngineError: It has died.
        """
        try:
            self.connection.send(task)
        except ConnectionError as e:
            raise self._died() from e

    def receive(self) -> Any:
        """Take what it says next: figures, the end of them, or an error that it met.

        Raises:
            EngineError: It has died.
        """
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError) as e:
            raise self._died() from e

    def ask(self, task: Task, limit_s: float) -> Figures:
        """Send a task and wait for its figures.

        Raises:
            EdgeportError: What it met; ``EngineError`` if it died, and ``LateError`` if it took too
                long: then the process is of no use any more.
        """
        self.send(task)
        if not self.connection.poll(limit_s):
            self.end()
            raise LateError.of(f"a step of {limit_s:.0f} s")
        answer = self.receive()
        if isinstance(answer, EdgeportError):
            raise answer
        figures: Figures = answer
        return figures

    @property
    def alive(self) -> bool:
        """Whether it can be asked more."""
        return self._process.poll() is None and not self.connection.closed

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.connection.close()
        kill(self._process)
        self._said.close()

    def _died(self) -> EngineError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        code = self._process.returncode
        how = "it hangs while it ends" if code is None else fresh.ending(code)
        with contextlib.suppress(OSError, ValueError):
            self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
            how += f"; the last that it said: {lines[-1].strip()}" if lines else ""
        return EngineError(
            f"the process died: {how}",
            remedy="run this model alone with edgeport verify; SIGKILL is often a lack of memory",
        )


def kill(process: subprocess.Popen[Any]) -> None:
    """End a process; one that a driver keeps from ending is left alone."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
