"""The gRPC port of a server, beside its HTTP port and in the same event loop."""

import asyncio
import socket

from edgeport.runtimes.serve.core import Core

from .connection import Connection, Limits
from .service import Service


class Listener:
    """What is listening. Made by ``listen``.

    To end: ``end()`` when the core starts to drain, ``close_door()`` when what was on its way has
    had time to arrive, ``close()`` when nothing is ``busy`` any more.
    """

    def __init__(self, service: Service, group: set[Connection]) -> None:
        self._service = service
        self._group = group
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket, limits: Limits) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._service.open, self._group, limits), sock=listener
        )

    @property
    def busy(self) -> bool:
        """Whether a call is being received or answered."""
        return any(connection.busy for connection in self._group)

    def end(self) -> None:
        """Stop listening, tell clients to go elsewhere; calls on their way are taken."""
        if self._server is not None:
            self._server.close()
        self._service.changed()
        self._service.end_watches()
        for connection in list(self._group):
            connection.end()

    def close_door(self) -> None:
        """Refuse further calls; a connection closes when its last one is answered."""
        for connection in list(self._group):
            connection.close_door()

    def close(self) -> None:
        """Close every connection; what was written is still sent."""
        for connection in list(self._group):
            connection.close()


async def listen(core: Core, listener: socket.socket, limits: Limits | None = None) -> Listener:
    """Serve the core over gRPC.

    Args:
        core: Made in the running loop.
        listener: Bound and listening.
        limits: What a client may take.
    """
    limits = limits or Limits()
    found = Listener(Service(core, limits), set())
    await found.start(listener, limits)
    return found
