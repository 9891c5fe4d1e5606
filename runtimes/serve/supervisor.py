"""The process that watches: it holds the port and runs no model, so nothing that one does ends it.

A worker that dies is replaced, after a while if it goes on dying; the next clients wait at the
port meanwhile. A model that was running each time is left out, so that the others are served.
One whose model does not come back from a run dies by our hand: nothing else ends an engine.
What a client asks of the repository is done by all workers, and tried in a child first.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from edgeport.runtimes.safety.forked import ENDING, fork
from edgeport.runtimes.safety.fresh import ending

from . import channel
from .counters import Board
from .jobs import Jobs
from .offer import MINUTE_S, Offer, Rehearsal
from .repository import Catalogue
from .signals import heard
from .worker import DRAIN_S, Assignment, Settings, work

LOOK_S: Final = 1.0
"""How often it is looked whether a model hangs, and how long its worker has to tell its clients."""

_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 5.0
_GRACE_S: Final = 1.0


@dataclass(slots=True)
class _Worker:
    number: int
    listener: socket.socket
    pid: int = 0
    channel: socket.socket | None = None
    started: bool = False
    deaths: list[float] = field(default_factory=list)
    restart_at: float | None = None
    hanging: list[int] = field(default_factory=list)  # slots of models for which it was killed


class Supervisor:
    """Starts workers and keeps them.

    Args:
        settings: For the workers.
        offer: What they serve.
        catalogue: Of the models.
        listeners: One per worker.
        rehearsal: Tries a model.
        tell: Called with what an operator should know.
    """

    def __init__(
        self,
        settings: Settings,
        offer: Offer,
        catalogue: Catalogue,
        listeners: Sequence[socket.socket],
        rehearsal: Rehearsal,
        tell: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._tell = tell
        self._offer = offer
        self._board = Board(len(listeners))
        self._workers = [_Worker(number, listener) for number, listener in enumerate(listeners)]
        self._selector = selectors.DefaultSelector()
        self._jobs = Jobs(self, offer, catalogue, rehearsal, self._selector)
        self._stop_at: float | None = None
        self._look_at = time.monotonic() + LOOK_S
        self._names: list[str] = []  # what answers

    def run(self, ready: Callable[[Sequence[str]], None]) -> None:
        """Serve until SIGINT, SIGTERM or SIGHUP.

        Args:
            ready: Called with the names of the models once all workers answer.

        Raises:
            EdgeportError: A model that is required cannot be served.
        """
        with heard() as wakeup:
            self._selector.register(wakeup, selectors.EVENT_READ, lambda: self._woken(wakeup))
            try:
                for worker in self._workers:
                    self._start(worker)
                self._await_start(ready)
                while self._stop_at is None or any(worker.pid for worker in self._workers):
                    self._turn()
            finally:
                self._kill()
                for worker in self._workers:
                    if worker.channel is not None:
                        worker.channel.close()
                self._selector.close()

    def _await_start(self, ready: Callable[[Sequence[str]], None]) -> None:
        while self._stop_at is None and not all(worker.started for worker in self._workers):
            self._turn()
        if self._stop_at is None:
            self._offer.open()
            ready(self._names)

    # ---- turns

    def _turn(self) -> None:
        now = time.monotonic()
        due = [worker.restart_at for worker in self._workers if worker.restart_at is not None]
        due.append(self._look_at if self._stop_at is None else self._stop_at)
        for key, _ in self._selector.select(max(0.0, min(due) - now)):
            key.data()
        now = time.monotonic()
        if self._stop_at is None and self._look_at <= now:
            if now < self._look_at + LOOK_S:  # else we all were stopped, and they may be done soon
                self._look()
            self._look_at = now + LOOK_S
        for worker in self._workers:
            if worker.restart_at is not None and worker.restart_at <= now:
                self._start(worker)
        if self._stop_at is not None and self._stop_at <= now:
            self._tell(f"not all was answered in {DRAIN_S + _GRACE_S:g} s: the rest is dropped")
            self._kill()

    def _woken(self, wakeup: socket.socket) -> None:
        numbers = wakeup.recv(4096)
        if signal.SIGCHLD in numbers:
            self._reap()
        for number in ENDING:
            if number in numbers:
                self._stop(number.name)

    def _stop(self, why: str) -> None:
        if self._stop_at is not None:  # asked twice: now
            self._tell(f"{why} again: it ends without the answers that are missing")
            self._kill()
            return
        self._tell(f"{why}: answering what was accepted, then ending")
        self._stop_at = time.monotonic() + DRAIN_S + _GRACE_S
        for worker in self._workers:
            worker.restart_at = None
            worker.listener.close()  # the workers still have theirs
            if worker.pid:
                os.kill(worker.pid, signal.SIGTERM)

    def _kill(self) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
                worker.pid = 0
        self._stop_at = self._stop_at or time.monotonic()

    # ---- engines that hang

    def _look(self) -> None:
        """Kill workers in which a run has taken longer than any may; others follow."""
        longest_s = self._settings.bounds.run_s
        for worker in self._workers:
            if not worker.pid or worker.hanging:
                continue
            overdue = self._board.overdue(worker.number, longest_s + LOOK_S)
            for place in self._offer.places():
                if place.slot in overdue:
                    worker.hanging.append(place.slot)
                    self._tell(
                        f"model {place.name!r} version {place.version} hangs: worker "
                        f"{worker.number} has run it for {overdue[place.slot]:.0f} s, and "
                        f"--run-limit is {longest_s:g} s; the worker is killed, with what else "
                        "it was to answer"
                    )
            if worker.hanging:
                os.kill(worker.pid, signal.SIGKILL)

    # ---- workers

    def _start(self, worker: _Worker) -> None:
        offered = self._offer.for_worker(worker.number)

        def life(theirs: socket.socket) -> None:
            assignment = Assignment(worker.number, worker.listener, theirs, *offered)
            work(self._settings, self._board, assignment)

        try:
            worker.pid, ours = self.fork(life, keep=worker.listener)
        except OSError as e:  # the others go on; later there may be a process for it
            worker.restart_at = time.monotonic() + _LONGEST_DELAY_S
            self._tell(f"worker {worker.number} cannot be started: {e}; it is tried again")
            return
        worker.channel, worker.restart_at = ours, None
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._heard(worker, ours))

    def _child(self, life: Callable[[], None], keep: socket.socket | None) -> None:
        """What a child does; it never returns to the caller's code."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for worker in self._workers:  # its port is nobody else's, and channels must end
                if worker.channel is not None:
                    worker.channel.close()
                if worker.listener is not keep:
                    worker.listener.close()
            life()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for worker in self._workers:
                if worker.pid == pid:
                    self._buried(worker, status)

    def _buried(self, worker: _Worker, status: int) -> None:
        worker.pid = 0
        if worker.channel is not None:
            self._selector.unregister(worker.channel)
            worker.channel.close()
            worker.channel = None
        if self._stop_at is not None:
            return
        suspects = worker.hanging or self._board.busy(worker.number)
        worker.hanging = []
        self._board.forget_gauges(worker.number)
        names = self._offer.blame(suspects)
        now = time.monotonic()
        worker.deaths = [at for at in worker.deaths if now - at < MINUTE_S]
        delay_s = 0.0
        if worker.deaths:
            delay_s = min(_FIRST_DELAY_S * 2 ** len(worker.deaths), _LONGEST_DELAY_S)
        worker.deaths.append(now)
        worker.restart_at = now + delay_s
        ran = f" while it ran {names}" if names else ""
        self._tell(f"worker {worker.number} {_cause(status)}{ran}; another follows")
        self._jobs.died(worker.number)

    # ---- what workers say

    def _heard(self, worker: _Worker, end: socket.socket) -> None:
        if worker.channel is not end:  # it was buried in this turn
            return
        message = channel.receive(end)
        if message is None:  # it is ending; the signal follows
            self._selector.unregister(end)
            end.close()
            worker.channel = None
        elif message["type"] == "started":
            self._started(worker, message["failures"])
            self._names = message["models"]
        elif message["type"] == "told":
            self._tell(message["text"])
        elif message["type"] == "ask":
            self._jobs.ask(worker.number, message)
        else:
            self._jobs.done(worker.number, message)

    def _started(self, worker: _Worker, failures: Mapping[str, Mapping[str, str]]) -> None:
        for name, failure in failures.items():
            self._offer.refuse(name, channel.error_from_json(failure))
        worker.started = True

    # ---- for the jobs

    def broadcast(self, message: Mapping[str, Any]) -> set[int]:
        """Send to all workers; the numbers of those who will answer."""
        return {worker.number for worker in self._workers if self._send(worker, message)}

    def send(self, worker: int, message: Mapping[str, Any]) -> None:
        """Send to one worker, if it is still there."""
        self._send(self._workers[worker], message)

    def fork(
        self, life: Callable[[socket.socket], None], keep: socket.socket | None = None
    ) -> tuple[int, socket.socket]:
        """Start a child that does something with its end of a channel, and ends.

        Args:
            life: What it does.
            keep: The port that it answers at.

        Returns:
            Its process id, and our end.

        Raises:
            OSError: The system has no process for it, or no file.
        """
        ours, theirs = channel.pair()
        with theirs:
            try:
                pid = fork()
            except BaseException:  # Ctrl-C too: fork raises it, and has no child then
                ours.close()
                raise
            if pid == 0:
                ours.close()
                self._child(lambda: life(theirs), keep)
        return pid, ours

    def told(self, text: str) -> None:
        """What an operator should know."""
        self._tell(text)

    def _send(self, worker: _Worker, message: Mapping[str, Any]) -> bool:
        if worker.channel is None:
            return False
        try:
            channel.send(worker.channel, message)
        except OSError:  # it is ending
            return False
        return True


def _cause(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"{'was ended by' if code < 0 else 'ended with'} {ending(code)}"
