"""A port at which every process of a server listens, and how to give it up and lose nobody."""

import contextlib
import ctypes
import errno
import socket
import struct
from typing import Final

from edgeport.runtimes.errors import UsageError

QUIET_S: Final = 0.3
"""How long a request that was on its way when the signal came has to arrive."""

ACCEPT_S: Final = 0.02
"""How long the last connections have to be accepted, once no others come."""

_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER of asm-generic/socket.h
_RETURN: Final = 0x06  # BPF_RET | BPF_K


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """Open a port, once for every process.

    Raises:
        UsageError: It cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        first = socket.create_server((address[0], port), family=family)  # getaddrinfo wraps 70000
        if count == 1:
            return [first]
        port = first.getsockname()[1]
        first.close()  # it found out whether the port is free: shared ones are, to all who share
        return [
            socket.create_server((address[0], port), family=family, reuse_port=True)
            for _ in range(count)
        ]
    except (OSError, OverflowError, UnicodeError) as e:  # UnicodeError: no name of a host
        in_use = isinstance(e, OSError) and e.errno == errno.EADDRINUSE
        raise UsageError(
            f"port {port} of {host} is in use"
            if in_use
            else f"cannot listen on {host}:{port}: {e}",
            remedy="choose another one with --port (0 for any that is free) or --host",
        ) from e


def hear_no_more(listener: socket.socket) -> None:
    """Let a port ignore who knocks, so that the queue of those it has let in can be emptied.

    A filter of one instruction that keeps nothing of a packet; who knocks again later is refused.
    https://docs.kernel.org/networking/filter.html
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, 0))
    described = struct.pack("HP", 1, ctypes.addressof(program))
    with contextlib.suppress(OSError):  # another kernel: those few are reset
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, described)
