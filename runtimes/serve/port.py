"""A port at which every process of a server listens, and how to give it up and lose nobody."""

import asyncio
import contextlib
import ctypes
import errno
import select
import socket
import struct
from typing import Final

from edgeport.runtimes.errors import UsageError

QUIET_S: Final = 0.3
"""How long a request that was on its way when the signal came has to arrive."""

BACKLOG: Final = 4096
"""Clients who may wait to be accepted, the kernel's own limit for one. Whoever finds no room there
knocks again after a second."""

_ACCEPT_S: Final = 0.02

_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER of asm-generic/socket.h
_DETACH_FILTER: Final = 27
_RETURN: Final = 0x06  # BPF_RET | BPF_K


def listen(host: str, port: int, count: int, option: str = "--port") -> list[socket.socket]:
    """Open a port, once for every process.

    Args:
        host: The address.
        port: 0 for a free one.
        count: How many processes.
        option: What another port is chosen with, for an error.

    Raises:
        UsageError: It cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # not the port of getaddrinfo, which wraps 70000
        first = socket.create_server((address[0], port), family=family, backlog=BACKLOG)
        if count == 1:
            return [first]
        port = first.getsockname()[1]
        first.close()  # it found out whether the port is free: shared ones are, to all who share
        return [
            socket.create_server(
                (address[0], port), family=family, reuse_port=True, backlog=BACKLOG
            )
            for _ in range(count)
        ]
    except (OSError, OverflowError, UnicodeError) as e:  # UnicodeError: no name of a host
        in_use = isinstance(e, OSError) and e.errno == errno.EADDRINUSE
        raise UsageError(
            f"port {port} of {host} is in use"
            if in_use
            else f"cannot listen on {host}:{port}: {e}",
            remedy=f"choose another one with {option} (0 for any that is free) or --host",
        ) from e


async def let_in(listener: socket.socket) -> None:
    """Give what is on its way time to arrive, and accept all who stand at the door, and no others.

    A libuv loop accepts one of them a turn. Whoever calls this closes the port then.
    """
    await asyncio.sleep(QUIET_S)
    _hear_no_more(listener)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    await asyncio.sleep(_ACCEPT_S)
    while poll.poll(0):
        await asyncio.sleep(_ACCEPT_S)


def hear(listener: socket.socket) -> None:
    """Let a port hear who knocks, although the process before this one has given it up.

    The socket is that process's too, and ``let_in`` has made it deaf.
    """
    with contextlib.suppress(OSError):  # nothing was attached
        listener.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def _hear_no_more(listener: socket.socket) -> None:
    """Let a port ignore who knocks, so that the queue of those it has let in can be emptied.

    A filter of one instruction that keeps nothing of a packet; who knocks again later is refused.
    https://docs.kernel.org/networking/filter.html
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, 0))
    described = struct.pack("HP", 1, ctypes.addressof(program))
    with contextlib.suppress(OSError):  # another kernel: those few are reset
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, described)
