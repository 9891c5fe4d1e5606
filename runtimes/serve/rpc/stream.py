"""One call's way back to its client, within an HTTP/2 connection."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from .connection import Connection
    from .sender import Sender


class Receiver(Protocol):
    """Takes what a client sends in one stream."""

    def data(self, part: bytes) -> None:
        """Some bytes have arrived."""
        ...

    def end(self) -> None:
        """The client has nothing more to say."""
        ...

    def cancel(self) -> None:
        """The client has left."""
        ...


class Stream:
    """One call's way back to its client.

    Attributes:
        receiver: Takes what the client sends.
        half_closed: Whether the client has nothing more to say.
        opened_s: When it began; ``time.monotonic()``.
        held_bytes: Of messages that are not complete.
        endless: Whether the client may take its time with what it sends.
    """

    __slots__ = ("endless", "half_closed", "held_bytes", "id", "opened_s", "owner", "parts",
                 "receiver", "sender", "since_s", "trailers", "unread", "window")  # fmt: skip

    def __init__(self, owner: Connection, sender: Sender, number: int) -> None:
        self.owner = owner
        self.sender = sender
        self.id = number
        self.window = sender.initial_window
        self.receiver: Receiver = _NOBODY
        self.half_closed = self.endless = False
        self.held_bytes = self.unread = 0
        self.opened_s = self.since_s = time.monotonic()
        self.parts: deque[memoryview] = deque()
        self.trailers: bytes | None = None

    def answer(self, headers: bytes, data: bytes, trailers: bytes) -> None:
        """Send everything at once, and end."""
        self.sender.answer(self, headers, data, trailers)

    def send(self, headers: bytes, data: bytes) -> None:
        """Send headers, unless they are empty, and data; more will follow."""
        self.sender.send(self, headers, data)

    def finish(self, trailers: bytes) -> None:
        """Send trailers behind all data, and end."""
        self.sender.finish(self, trailers)

    def hold(self, size_bytes: int) -> bool:
        """Whether so much of a message that is not complete may be kept; 0 once it is complete."""
        return self.owner.hold(self, size_bytes)

    @property
    def waiting_bytes(self) -> int:
        """What the client has not made room for."""
        return sum(map(len, self.parts))


class _Nobody:
    """Takes what is sent in a stream that has been answered already."""

    def data(self, part: bytes) -> None: ...

    def end(self) -> None: ...

    def cancel(self) -> None: ...


_NOBODY: Final = _Nobody()
