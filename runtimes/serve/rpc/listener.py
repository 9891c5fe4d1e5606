"""The gRPC port of a server, beside its HTTP port and in the same event loop."""

import asyncio
import socket
from collections.abc import Sequence

from edgeport.runtimes.serve.core import Core
from edgeport.runtimes.serve.port import BACKLOG, hear, let_in, listen

from .connection import Connection, Group, Limits
from .service import Service


class Door:
    """The port, held by the process that watches; each of its workers answers at it.

    Args:
        host: The address to listen on.
        port: 0 for a free one.
        workers: How many processes will answer.
        limits: What a client may take.

    Attributes:
        port: The number.

    Raises:
        UsageError: The port or address cannot be had.
    """

    def __init__(self, host: str, port: int, workers: int, limits: Limits) -> None:
        self._listeners: Sequence[socket.socket] = listen(host, port, workers, "--grpc-port")
        self._limits = limits
        self.port: int = self._listeners[0].getsockname()[1]

    async def start(self, core: Core, process: int) -> "Answering":
        """Answer in this process."""
        answering = Answering(core, self._limits)
        await answering.start(self._listeners[process])
        return answering

    def close(self) -> None:
        """Let go of the port."""
        for listener in self._listeners:
            listener.close()


class Answering:
    """What one process answers. Made by ``Door.start``."""

    def __init__(self, core: Core, limits: Limits) -> None:
        self._service = Service(core, limits)
        self._limits = limits
        self._group = Group()

    async def start(self, listener: socket.socket) -> None:
        """Accept connections."""
        self._listener, loop = listener, asyncio.get_running_loop()
        hear(listener)
        self._server = await loop.create_server(
            lambda: Connection(self._service.open, self._group, self._limits),
            sock=listener,
            backlog=BACKLOG,
        )

    async def drain(self) -> None:
        """Tell clients to go, answer what is accepted, and end. It may be cancelled."""
        try:
            self._service.end_watches()
            for connection in list(self._group):
                connection.end()
            await let_in(self._listener)
            self._server.close()  # not before: what waits there to be accepted would be reset
            for connection in list(self._group):
                connection.close_door()
            while any(connection.busy for connection in self._group):
                await asyncio.sleep(0.01)
        finally:
            for connection in list(self._group):
                connection.close()
