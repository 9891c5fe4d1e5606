"""The life of a process that answers: open the port, prove the models, answer, drain, end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import uvloop

from edgeport.runtimes.errors import EdgeportError, EngineError
from edgeport.runtimes.session import Options

from . import channel
from .core import Core
from .counters import Board
from .http import Connections
from .http_messages import Limits
from .memory import Thrift
from .port import BACKLOG, hear, let_in
from .repository import Place, Repository, opener
from .routes import Routes
from .work import Bounds

PATIENCE_S: Final = 2.0
"""How long clients wait at the port while models are opened, before they are told so."""

DRAIN_S: Final = 8.0
"""How long requests that have begun have to end; less than the 10 s that supervisors give."""

_LAST_WORD_S: Final = 0.5
"""How long it may take to tell the rest that they have no answer."""


class Transport(Protocol):
    """Another way to the same core, beside HTTP."""

    async def drain(self) -> None:
        """Tell clients to go, answer what is accepted, and end. It may be cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What every process of a server knows.

    Attributes:
        backend: Which engine.
        options: As for any session.
        trusted: As in ``Bundle.read``.
        bounds: What may wait for each model.
        limits: What a client may take.
        control: Whether clients may load and unload models.
        transports: Each is called in the event loop of every process, with its number, when HTTP
            is there too.
    """

    backend: str = "ort-cpu"
    options: Options = field(default_factory=Options)
    trusted: Sequence[Path] | None = None
    bounds: Bounds = field(default_factory=Bounds)
    limits: Limits = field(default_factory=Limits)
    control: bool = False
    transports: Sequence[Callable[[Core, int], Awaitable[Transport]]] = ()


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one process is to do.

    Attributes:
        process: Its number.
        listener: Where its clients come in.
        channel: To the process that watches.
        places: What to open.
        withheld: What not to open, and why.
    """

    process: int
    listener: socket.socket
    channel: socket.socket
    places: Sequence[Place]
    withheld: Sequence[tuple[Place, str]] = ()


def work(settings: Settings, board: Board, assignment: Assignment) -> None:
    """Answer until SIGTERM comes, or the process that watches is gone."""
    for number in (signal.SIGINT, signal.SIGHUP):  # the terminal sends them to all; one handles it
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(_Life(settings, board, assignment).live())


class _Life:
    def __init__(self, settings: Settings, board: Board, assignment: Assignment) -> None:
        self._settings = settings
        self._assignment = assignment
        self._channel = assignment.channel
        self._board = board
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        settings, loop = self._settings, asyncio.get_running_loop()
        stop = self._stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_reader(self._channel, self._read)
        self._repository = Repository(
            opener(settings.backend, settings.options, settings.trusted),
            settings.bounds,
            self._board,
            self._assignment.process,
        )
        core = Core(self._repository, self._ask if settings.control else None)
        core.starting = True
        routes = Routes(core, settings.backend, settings.limits)
        connections = Connections(routes, settings.limits)
        thrift = Thrift()
        starting = loop.create_task(self._start(core))
        await asyncio.wait({starting}, timeout=PATIENCE_S)
        listener = self._assignment.listener
        hear(listener)
        server = await loop.create_server(connections, sock=listener, backlog=BACKLOG)
        transports = [await start(core, self._assignment.process) for start in settings.transports]
        await stop.wait()
        starting.cancel()
        core.draining = True
        thrift.close()
        loop.call_later(DRAIN_S, self._give_up)
        await _drain(server, listener, connections, transports)
        routes.close()
        self._repository.close()
        server.close()

    # ---- models

    async def _start(self, core: Core) -> None:
        for place, reason in self._assignment.withheld:
            self._repository.withhold(place, reason)
        for place in self._assignment.places:
            self._repository.expect(place)
        failures = {}
        for name, places in _by_name(self._assignment.places):
            withheld = [
                place.version for place, _ in self._assignment.withheld if place.name == name
            ]
            try:
                await self._repository.load(places, withheld)
            except Exception as e:
                failures[name] = channel.error_to_json(_as_ours(e))
        core.starting = False
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked through again
        names = self._repository.names()
        self._send({"type": "started", "failures": failures, "models": names})

    async def _ask(self, action: Literal["load", "unload"], name: str) -> None:
        """Ask for an action in all processes, and wait until all have done it."""
        number = next(self._numbers)
        self._asked[number] = asyncio.get_running_loop().create_future()
        self._send({"type": "ask", "number": number, "action": action, "name": name})
        try:
            await self._asked[number]
        finally:
            del self._asked[number]

    def _read(self) -> None:
        message = channel.receive(self._channel)
        if message is None:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._stop.set()
        elif message["type"] == "answer":
            self._answer(message)
        else:
            task = asyncio.get_running_loop().create_task(self._do(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _answer(self, message: dict[str, Any]) -> None:
        future = self._asked.get(message["number"])
        if future is None or future.done():  # its client has left
            return
        if message["error"] is None:
            future.set_result(None)
        else:
            future.set_exception(channel.error_from_json(message["error"]))

    async def _do(self, message: dict[str, Any]) -> None:
        error = None
        try:
            if message["action"] == "load":
                await self._repository.load(
                    [Place(name, version, Path(path), slot)
                     for name, version, path, slot in message["places"]]
                )  # fmt: skip
            else:
                self._repository.unload(message["name"])
        except Exception as e:  # the process that watches waits for this answer
            error = channel.error_to_json(_as_ours(e))
        self._send({"type": "done", "number": message["number"], "error": error})

    def _give_up(self) -> None:
        count = self._repository.give_up()
        if count:
            text = f"requests that had no answer in {DRAIN_S:g} s, and were told so: {count}"
            self._send({"type": "told", "text": f"worker {self._assignment.process}: {text}"})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # who should read it is gone, and so are we soon
            channel.send(self._channel, message)


async def _drain(
    server: asyncio.Server,
    listener: socket.socket,
    connections: Connections,
    transports: Sequence[Transport],
) -> None:
    """Answer everything that is accepted, in time."""
    connections.end()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S + _LAST_WORD_S), asyncio.TaskGroup() as group:
            for transport in transports:
                group.create_task(transport.drain())
            await let_in(listener)
            server.close()  # not before: what waits there to be accepted would be reset
            while connections.busy:
                await asyncio.sleep(0.01)
    connections.close()
    await asyncio.sleep(0.01)  # what was written last is sent


def _as_ours(error: Exception) -> EdgeportError:
    """An error that can be told; a defect goes to the log with its trace."""
    if isinstance(error, EdgeportError):
        return error
    context = {"message": "a model could not be opened", "exception": error}
    asyncio.get_running_loop().call_exception_handler(context)
    return EngineError(f"{type(error).__name__}: {error}", remedy="read the server's log")


def _by_name(places: Iterable[Place]) -> Iterable[tuple[str, list[Place]]]:
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(place.name, []).append(place)
    return found.items()
