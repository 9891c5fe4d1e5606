"""gRPC in a stream of HTTP/2: messages, compression, deadlines, statuses.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
https://github.com/grpc/grpc/blob/master/doc/compression.md
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final
from urllib.parse import quote

from edgeport.runtimes.errors import (
    DeadlineError,
    EdgeportError,
    ForbiddenError,
    InputError,
    OverloadedError,
    UnavailableError,
    UnknownModelError,
    UsageError,
)
from edgeport.runtimes.serve.compression import SMALLEST_BYTES, TooLong, compress, decompress

from .connection import Limits
from .headers import Headers, literal
from .stream import Stream


class Status(IntEnum):
    """How a call ended: https://grpc.io/docs/guides/status-codes."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class CallError(Exception):
    """A call that is refused before it has reached a model."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


_OF_ERRORS: Final[Mapping[type[EdgeportError], Status]] = {
    InputError: Status.INVALID_ARGUMENT,
    UsageError: Status.INVALID_ARGUMENT,
    UnknownModelError: Status.NOT_FOUND,
    ForbiddenError: Status.PERMISSION_DENIED,
    OverloadedError: Status.RESOURCE_EXHAUSTED,
    DeadlineError: Status.DEADLINE_EXCEEDED,
}

_HEADERS: Final = b"\x88" + literal(b"content-type", b"application/grpc")  # 0x88 is :status 200
_ACCEPTED: Final = literal(b"grpc-accept-encoding", b"identity, deflate, gzip")
_PLAIN: Final = _HEADERS + _ACCEPTED
_OK: Final = literal(b"grpc-status", b"0")
_UNITS_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_ENCODINGS: Final = (b"gzip", b"deflate")
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_LARGEST_TEXT: Final = 1000
_PREFIX: Final = 5  # bytes in front of a message: is it compressed, how long is it


def status_of(error: EdgeportError, *, draining: bool) -> tuple[Status, str]:
    """What to answer for an error; UNAVAILABLE only while the server ends, for clients retry it."""
    text = f"{error.problem}; fix: {error.remedy}"
    if isinstance(error, UnavailableError):
        return (Status.UNAVAILABLE if draining else Status.FAILED_PRECONDITION), text
    for kind, status in _OF_ERRORS.items():
        if isinstance(error, kind):
            return status, text
    return Status.INTERNAL, text


def http_refusal(status: int) -> bytes:
    """Headers of an answer to what is no gRPC."""
    return literal(b":status", str(status).encode())


class Call:
    """One call: collects the client's messages, and sends answers.

    Args:
        stream: The way back.
        headers: Of the request.
        limits: What the client may take.
        heard: Called with each message; with the only one when the client has ended.
        ended: Called when the client has nothing more to say, where it may send many messages and
            take its time; ``None`` where it is to send one.

    Attributes:
        deadline: ``time.monotonic()`` when the client gives up; ``None`` for never.
        left: Called once if the client leaves before the answer.
    """

    __slots__ = ("_encoding", "_ended", "_have", "_heard", "_limits", "_need", "_only", "_over",
                 "_parts", "_replies", "_started", "_stream", "deadline", "left")  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        headers: Headers,
        limits: Limits,
        heard: Callable[["Call", bytes], None],
        ended: Callable[["Call"], None] | None = None,
    ) -> None:
        self._stream = stream
        self._limits = limits
        self._heard = heard
        self._ended = ended
        stream.endless = ended is not None
        self._parts: list[bytes] = []  # of messages that are not complete
        self._have, self._need = 0, _PREFIX  # bytes
        self._started = self._over = False
        self._only: bytes | None = None
        self.left: Callable[[], object] | None = None
        self._encoding = headers.get(b"grpc-encoding", b"identity")
        accepted = headers.get(b"grpc-accept-encoding", b"").replace(b" ", b"").split(b",")
        mirrored = self._encoding in _ENCODINGS and self._encoding in accepted
        self._replies = self._encoding if mirrored else b"identity"
        timeout = headers.get(b"grpc-timeout")
        seconds = None if timeout is None else _seconds(timeout)
        self.deadline = None if seconds is None else time.monotonic() + seconds

    # ---- called by the connection

    def data(self, part: bytes) -> None:
        """Some bytes of messages have arrived."""
        self._parts.append(part)
        self._have += len(part)
        try:
            if self._have >= self._need:
                self._messages(part if len(self._parts) == 1 else b"".join(self._parts))
            if (self._have or self._stream.held_bytes) and not self._stream.hold(self._have):
                text = "too many long messages are on their way at once; fix: try again later"
                raise CallError(Status.RESOURCE_EXHAUSTED, text)
        except CallError as e:
            self._parts, self._have = [], 0
            self.fail(e.status, str(e))

    def end(self) -> None:
        """The client has nothing more to say."""
        if self._over:
            return
        if self._have:
            self.fail(Status.INVALID_ARGUMENT, "the last message is cut off")
        elif self._ended is not None:
            self._ended(self)
        elif self._only is None:
            self.fail(Status.INVALID_ARGUMENT, "no message, expected one")
        else:
            try:
                self._heard(self, self._only)
            except CallError as e:
                self.fail(e.status, str(e))

    def cancel(self) -> None:
        """The client has left, or has its answer."""
        left, self.left = self.left, None
        if left is not None:
            left()

    def _messages(self, data: bytes) -> None:
        """Hear what is complete; keep the rest."""
        place = 0
        while not self._over and len(data) - place >= _PREFIX:
            size = int.from_bytes(data[place + 1 : place + _PREFIX], "big")
            if size > self._limits.message_bytes:
                raise CallError(
                    Status.RESOURCE_EXHAUSTED,
                    f"a message of {size} bytes; at most {self._limits.message_bytes} are read; "
                    "fix: send less at a time",
                )
            start = place + _PREFIX
            if len(data) - start < size:
                self._need = _PREFIX + size
                break
            self._message(data[place], data[start : start + size])
            place, self._need = start + size, _PREFIX
        self._have = len(data) - place
        self._parts = [data[place:]] if self._have else []

    def _message(self, flag: int, data: bytes) -> None:
        if self._only is not None:
            raise CallError(Status.INVALID_ARGUMENT, "more than one message, expected one")
        if flag == 1:
            data = _unpacked(data, self._encoding, self._limits.message_bytes)
        elif flag:
            raise CallError(Status.INTERNAL, f"a message has flag {flag}, expected 0 or 1")
        if self._ended is None:
            self._only = data  # heard when it is sure that there is no other
        else:
            self._heard(self, data)

    # ---- answers

    def answer(self, message: bytes) -> None:
        """Send the only message, and end."""
        self.left, self._over = None, True
        headers, data = self._framed(message)
        self._stream.answer(headers, data, _OK)

    def send(self, message: bytes) -> None:
        """Send one message; more may follow."""
        headers, data = self._framed(message)
        self._stream.send(b"" if self._started else headers, data)
        self._started = True

    @property
    def waiting_bytes(self) -> int:
        """What was sent and the client has not made room for."""
        return self._stream.waiting_bytes

    def finish(self) -> None:
        """End well."""
        self.left, self._over = None, True
        if not self._started:
            self._stream.send(_PLAIN, b"")
        self._stream.finish(_OK)

    def fail(self, status: Status, text: str) -> None:
        """End badly; the text is for a person."""
        self.left, self._over = None, True
        message = quote(text[:_LARGEST_TEXT], safe=_UNQUOTED).encode("ascii")
        trailers = literal(b"grpc-status", b"%d" % status) + literal(b"grpc-message", message)
        self._stream.finish(trailers if self._started else _PLAIN + trailers)

    def break_off(self, defect: Exception) -> None:
        """End for a defect of ours: the client gets an answer, the log the trace."""
        context = {"message": "a call failed", "exception": defect}
        asyncio.get_running_loop().call_exception_handler(context)
        self.fail(Status.INTERNAL, "internal error; fix: read the server's log")

    def _framed(self, message: bytes) -> tuple[bytes, bytes]:
        if self._replies == b"identity":
            return _PLAIN, b"\0" + len(message).to_bytes(4, "big") + message
        headers = _PLAIN + literal(b"grpc-encoding", self._replies)
        if len(message) < SMALLEST_BYTES:
            return headers, b"\0" + len(message).to_bytes(4, "big") + message
        packed = compress(message, self._replies.decode())
        return headers, b"\1" + len(packed).to_bytes(4, "big") + packed


_UNQUOTED: Final = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}~"  # all printable ASCII but the percent sign


def _seconds(timeout: bytes) -> float | None:
    """Read ``grpc-timeout``; what is no timeout is none: a deadline of long ago helps nobody."""
    match = _TIMEOUT.fullmatch(timeout)
    return int(match[1]) * _UNITS_S[match[2]] if match else None


def _unpacked(data: bytes, encoding: bytes, most_bytes: int) -> bytes:
    if encoding not in _ENCODINGS:
        name = encoding.decode("latin-1")
        text = f"messages are encoded as {name!r}; this server takes identity, deflate and gzip"
        raise CallError(Status.UNIMPLEMENTED, text)
    try:
        return decompress(data, encoding.decode(), most_bytes)
    except TooLong as e:
        raise CallError(
            Status.RESOURCE_EXHAUSTED,
            f"a message is longer than {most_bytes} bytes decompressed; fix: send less at a time",
        ) from e
    except InputError as e:
        raise CallError(Status.INVALID_ARGUMENT, f"a message: {e.problem}") from e
