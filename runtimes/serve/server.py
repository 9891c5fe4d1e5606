"""The life of a server: prove the models, open the port, answer, drain, end."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.safety.isolation import Limits
from edgeport.runtimes.session import Options

from .http import Connection
from .models import Model, open_models
from .routes import Routes

WORKERS: Final = 4
"""Inferences at a time. Few: engines have threads of their own, and JSON holds the GIL."""

QUIET_S: Final = 0.3
"""How long a request that was on its way when the signal came has to arrive."""

DRAIN_S: Final = 8.0
"""How long requests that have begun have to end; less than the 10 s that supervisors give."""


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served, and where."""

    models: tuple[str, ...]
    url: str
    backend: str


def serve(
    bundles: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    backend: str = "ort-cpu",
    threads: int | None = None,
    trusted: Sequence[Path] | None = None,
    limits: Limits | None = None,
    ready: Callable[[Serving], None] = lambda _: None,
) -> None:
    """Serve bundles until SIGINT or SIGTERM. Call it in the main thread.

    Every model repeats its golden samples first; the port is opened only if all of them pass.

    Args:
        bundles: What to serve, each under the name in its manifest.
        host: The address to listen on; the default is seen by this machine alone.
        port: 0 for a free one.
        backend: Which engine.
        threads: As in ``Options``.
        trusted: As in ``Bundle.read``.
        limits: As in ``open_models``.
        ready: Called once requests are answered.

    Raises:
        UsageError: The port or address cannot be had, or two bundles have one name.
        ParityError: A model does not compute what its module computed.
        EdgeportError: A bundle cannot be opened: see ``Bundle``.
    """
    with contextlib.ExitStack() as stack:
        models = open_models(bundles, backend, Options(threads=threads), stack, trusted, limits)
        listener = stack.enter_context(_listen(host, port))
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{listener.getsockname()[1]}"
        uvloop.run(_serve(models, listener, lambda: ready(Serving(tuple(models), url, backend))))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((address[0], port), family=family)  # getaddrinfo wraps 70000
    except (OSError, OverflowError, UnicodeError) as e:  # UnicodeError: no name of a host
        in_use = isinstance(e, OSError) and e.errno == errno.EADDRINUSE
        raise UsageError(
            f"port {port} of {host} is in use"
            if in_use
            else f"cannot listen on {host}:{port}: {e}",
            remedy="choose another one with --port (0 for any that is free) or --host",
        ) from e


async def _serve(
    models: Mapping[str, Model], listener: socket.socket, announce: Callable[[], None]
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    connections: set[Connection] = set()
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="edgeport-infer") as pool:
        routes = Routes(models, pool)
        server = await loop.create_server(lambda: Connection(routes, connections), sock=listener)
        announce()
        await stop.wait()
        server.close()
        routes.ready = False
        await _drain(connections)


async def _drain(connections: set[Connection]) -> None:
    for connection in connections:
        connection.end()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            await asyncio.sleep(QUIET_S)
            while any(connection.busy for connection in connections):
                await asyncio.sleep(0.02)
    for connection in list(connections):
        connection.close()
