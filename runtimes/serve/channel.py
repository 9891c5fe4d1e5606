"""Messages between the process that watches and one that works.

JSON over a socket that keeps their bounds; never pickle, because a process that runs somebody's
model may become his.
"""

import json
import socket
from collections.abc import Mapping
from typing import Any, Final

from edgeport.runtimes import errors
from edgeport.runtimes.errors import EdgeportError, EngineError

_LONGEST: Final = 2**18


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (one, other):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _LONGEST)
    return one, other


def send(end: socket.socket, message: Mapping[str, Any]) -> None:
    """Send one message.

    Raises:
        OSError: The other end is gone.
    """
    end.sendall(json.dumps(message).encode())


def receive(end: socket.socket) -> dict[str, Any] | None:
    """The next message; ``None`` if the other end is gone."""
    try:
        data = end.recv(_LONGEST)
    except OSError:
        return None
    return json.loads(data) if data else None


def error_to_json(error: EdgeportError) -> dict[str, str]:
    """Write an error."""
    return {"kind": type(error).__name__, "problem": error.problem, "remedy": error.remedy}


def error_from_json(value: Mapping[str, str]) -> EdgeportError:
    """Read what ``error_to_json`` wrote; an unknown kind becomes an EngineError."""
    kind = getattr(errors, value["kind"], None)
    if not (isinstance(kind, type) and issubclass(kind, EdgeportError)):
        kind = EngineError
    return kind(value["problem"], remedy=value["remedy"])
