"""HTTP/1.1 as messages: bytes in, requests out. No network, so that it can be tested without.

httptools is the parser of Node.js (llhttp); it reads any number of bytes, so the limits are here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Literal, NoReturn

import httptools

from .protocol import dumps

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take.

    Attributes:
        body_bytes: Longest body.
        head_bytes: Longest request line, headers and trailers together.
        framing_bytes: Most of everything in a message but its body, chunk sizes included.
        receive_s: Time for the head to be complete, and again for the body.
        idle_s: Time between two requests: more than the 60 s after which proxies give up, so
            that it is never the server who closes while a request is on its way.
        linger_s: Time to go on reading after a refusal. Closing at once would reset the
            connection, and a client that is still sending would never see the answer.
    """

    body_bytes: int = 64 * 2**20
    head_bytes: int = 64 * 2**10
    framing_bytes: int = 2**20
    receive_s: float = 30.0
    idle_s: float = 75.0
    linger_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request; the names of its headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool


@dataclass(frozen=True, slots=True)
class Response:
    """One answer. The body is JSON."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def render(self, *, close: bool, without_body: bool = False) -> bytes:
        """Write it as HTTP/1.1; a HEAD request is answered without the body."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "Content-Type: application/json",
            f"Content-Length: {len(self.body)}",
            f"Connection: {'close' if close else 'keep-alive'}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
        return head if without_body else head + self.body


@dataclass(frozen=True, slots=True)
class Refusal:
    """The stream makes no sense from here on: answer this and close."""

    response: Response


class Continue:
    """The client waits to be told that it may send the body."""


Message = Request | Refusal | Continue


def error(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Every answer that is not 200 has this body; clients read the key."""
    return Response(status, dumps({"error": text}), headers or {})


class Receiver:
    """Turns one connection's bytes into messages. After a refusal it must not be fed again.

    Attributes:
        stage: The number of the request and what is being received of it.
    """

    def __init__(self, limits: Limits) -> None:
        self.stage: tuple[int, Literal["nothing", "head", "body"]] = (0, "nothing")
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._messages: list[Message] = []
        self._refusal: Refusal | None = None
        self._framing_bytes = 0
        self._reset()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that these bytes complete; a refusal is the last one."""
        self._messages = []
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._framing_bytes > self._limits.framing_bytes:
                self._refuse(431, "the headers or the chunk sizes are too long")
        except _Refused:
            pass
        except httptools.HttpParserCallbackError:
            if self._refusal is None:  # a defect of this file, not of the request
                raise
        except httptools.HttpParserError as e:
            self._refusal = Refusal(error(400, f"not an HTTP/1.1 request: {e}"))
        if self._refusal:
            self._messages.append(self._refusal)
        return self._messages

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._body = bytearray()

    def _refuse(self, status: int, text: str) -> NoReturn:
        self._refusal = Refusal(error(status, text))
        raise _Refused

    # ---- called by httptools

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.stage = (self.stage[0] + 1, "head")

    def on_url(self, part: bytes) -> None:
        """A part of the request line's URL."""
        self._url += part
        self._count_head(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind a chunked body, which nobody asked for."""
        self._count_head(len(name) + len(value))
        if self.stage[1] == "head":
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body is read."""
        self.stage = (self.stage[0], "body")
        if self._parser.should_upgrade():  # httptools would take the body for something else
            self._refuse(400, "this server speaks HTTP/1.1 only: send no Upgrade and no CONNECT")
        if int(self._headers.get("content-length", "0")) > self._limits.body_bytes:
            self._refuse_body()
        if self._headers.get("expect", "").lower() == "100-continue":
            self._messages.append(Continue())

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._framing_bytes -= len(part)
        self._body += part
        if len(self._body) > self._limits.body_bytes:  # chunked: no length was announced
            self._refuse_body()

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        try:
            path = httptools.parse_url(self._url).path
        except httptools.HttpParserInvalidURLError:
            path = None
        request = Request(
            method=self._parser.get_method().decode("ascii"),
            path=(path or b"/").decode("latin-1"),
            headers=self._headers,
            body=bytes(self._body),
            keep_alive=self._parser.should_keep_alive(),
        )
        self._messages.append(request)
        self.stage = (self.stage[0], "nothing")
        self._framing_bytes = 0
        self._reset()

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > self._limits.head_bytes:
            self._refuse(431, f"the headers are longer than {self._limits.head_bytes} bytes")

    def _refuse_body(self) -> NoReturn:
        self._refuse(413, f"the body is longer than {self._limits.body_bytes} bytes")


class _Refused(Exception):  # noqa: N818  # control flow out of httptools' callbacks
    pass
