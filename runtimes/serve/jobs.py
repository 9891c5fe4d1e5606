"""What clients ask of the repository: one thing after the other, in every worker, tried first."""

from __future__ import annotations

import selectors
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgeport.runtimes.errors import EdgeportError, EngineError

from . import channel
from .offer import Offer, Rehearsal
from .repository import Catalogue, Place


class Host(Protocol):
    """What has the workers."""

    def broadcast(self, message: Mapping[str, Any]) -> set[int]:
        """Send to all workers; the numbers of those who will answer."""
        ...

    def send(self, worker: int, message: Mapping[str, Any]) -> None:
        """Send to one worker, if it is still there."""
        ...

    def fork(self, life: Callable[[socket.socket], None]) -> tuple[int, socket.socket]:
        """Start a child that does something with its end of a channel: its id, and our end."""
        ...

    def told(self, text: str) -> None:
        """What an operator should know."""
        ...


@dataclass(slots=True)
class _Job:
    number: int
    worker: int
    asked: int
    action: str
    name: str
    places: list[Place] = field(default_factory=list)
    waiting: set[int] = field(default_factory=set)
    error: Mapping[str, str] | None = None


class Jobs:
    """The queue of what is asked.

    Args:
        host: Has the workers.
        offer: What they serve.
        catalogue: Of the models.
        rehearsal: Tries a model.
        selector: What the host waits at; data of a key is called.
    """

    def __init__(
        self,
        host: Host,
        offer: Offer,
        catalogue: Catalogue,
        rehearsal: Rehearsal,
        selector: selectors.BaseSelector,
    ) -> None:
        self._host = host
        self._offer = offer
        self._catalogue = catalogue
        self._rehearsal = rehearsal
        self._selector = selector
        self._jobs: deque[_Job] = deque()
        self._count = 0

    def ask(self, worker: int, message: Mapping[str, Any]) -> None:
        """Queue what a worker asks for one of its clients."""
        self._count += 1
        asked = (message["number"], message["action"], message["name"])
        self._jobs.append(_Job(self._count, worker, *asked))
        if len(self._jobs) == 1:
            self._go_on()

    def done(self, worker: int, message: Mapping[str, Any]) -> None:
        """A worker has done it, or could not."""
        job = self._jobs[0]
        if job.number == message["number"]:
            job.error = job.error or message["error"]
            self._discard(worker)

    def died(self, worker: int) -> None:
        """A worker will not answer; the one that follows opens what is wanted then."""
        self._discard(worker)

    def _go_on(self) -> None:
        """Begin the next job; one that ends at once, as with an unknown model, is no recursion."""
        while self._jobs:
            job = self._jobs[0]
            try:
                if job.action == "load":
                    job.places = self._catalogue.places(job.name)
                    self._try(job)
                    return
                if self._do(job):
                    return
                error = job.error
            except EdgeportError as e:
                error = channel.error_to_json(e)
            self._answer(job, error)

    def _try(self, job: _Job) -> None:
        """Open and run the models in a child, and go on when it has."""

        def life(theirs: socket.socket) -> None:
            error = None
            try:
                for place in job.places:
                    self._rehearsal(place)
            except EdgeportError as e:
                error = channel.error_to_json(e)
            channel.send(theirs, {"error": error})

        def tried() -> None:
            message = channel.receive(ours)
            self._selector.unregister(ours)
            ours.close()
            if message is None:
                failure = EngineError("the process that tried the model ended", remedy="try again")
                self._end(job, channel.error_to_json(failure))
            elif message["error"] is not None:
                self._end(job, message["error"])
            elif not self._do(job):
                self._end(job, job.error)

        try:
            _, ours = self._host.fork(life)
        except OSError as e:
            problem = f"no process can be started that tries the model: {e}"
            raise EngineError(problem, remedy="try again later") from e
        self._selector.register(ours, selectors.EVENT_READ, tried)

    def _do(self, job: _Job) -> bool:
        """Tell all workers; whether there is one to wait for."""
        if job.action == "load":
            self._offer.loaded(job.name, job.places)
        else:
            self._offer.unloaded(job.name)
        message = {
            "type": "do",
            "number": job.number,
            "action": job.action,
            "name": job.name,
            "places": [[p.name, p.version, str(p.path), p.slot] for p in job.places],
        }
        job.waiting = self._host.broadcast(message)
        return bool(job.waiting)

    def _discard(self, worker: int) -> None:
        if self._jobs and worker in self._jobs[0].waiting:
            job = self._jobs[0]
            job.waiting.discard(worker)
            if not job.waiting:
                self._end(job, job.error)

    def _end(self, job: _Job, error: Mapping[str, str] | None) -> None:
        self._answer(job, error)
        self._go_on()

    def _answer(self, job: _Job, error: Mapping[str, str] | None) -> None:
        self._jobs.popleft()
        result = "done" if error is None else error["problem"]
        self._host.told(f"a client asks to {job.action} model {job.name!r}: {result}")
        self._host.send(job.worker, {"type": "answer", "number": job.asked, "error": error})
