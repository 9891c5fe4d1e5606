"""HTTP/1.1 as messages: bytes in, requests out. No network, so that it can be tested without.

httptools is the parser of Node.js (llhttp); it reads any number of bytes, so the limits are here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Final, Literal, NamedTuple, NoReturn, TypeAlias

import httptools

from .json_text import dumps

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

JSON: Final = "application/json"

_PIECE_BYTES: Final = 16 * 2**10
"""The parser gets no more than this at once of a read of up to 256 KiB: then limits are checked."""

_FIX: Final = "fix: send HTTP/1.1, without TLS; gRPC has a port of its own"
_OTHER_PROTOCOL: Final = "this server speaks HTTP/1.1 only; fix: send no Upgrade and no CONNECT"
_TOO_MUCH_FRAMING: Final = (
    "the headers or the chunk sizes are too long; fix: send fewer headers, and larger chunks"
)

_NO_HEADERS: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take.

    Attributes:
        body_bytes: Longest body.
        bodies: How many of the longest may be on their way together: a few clients who never end
            theirs would take all memory.
        head_bytes: Longest request line and headers together. Repeated headers and spaces count
            as they arrive, so a head of those may be up to two pieces of 16 KiB longer.
        framing_bytes: Most of everything in a message but its body, chunk sizes included.
        head_s: Time for the head to be complete.
        body_s: Time for the body to be complete after that, or for the client to read an answer.
        idle_s: Time between two requests: more than the 60 s after which proxies give up, so
            that it is never the server who closes while a request is on its way.
        linger_s: Time to go on reading after a refusal. Closing at once would reset the
            connection, and a client that is still sending would never see the answer.
    """

    body_bytes: int = 64 * 2**20
    bodies: int = 8
    head_bytes: int = 64 * 2**10
    framing_bytes: int = 2**20
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 75.0
    linger_s: float = 2.0


class Request(NamedTuple):
    """One request; the names of its headers are in lower case."""

    method: str
    target: bytes
    headers: Mapping[bytes, bytes]
    body: bytes
    keep_alive: bool


class Response(NamedTuple):
    """One answer."""

    status: int
    parts: Sequence[bytes]
    content_type: str = JSON
    headers: Mapping[str, str] = _NO_HEADERS

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(self.parts)

    def render(self, *, close: bool, without_body: bool = False) -> bytes:
        """Write it as HTTP/1.1; a HEAD request is answered without the body."""
        parts = self.parts
        length = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        head = _head(self.status, self.content_type, close)
        for name, value in self.headers.items():
            head += f"{name}: {value}\r\n".encode("latin-1")
        head = b"%bContent-Length: %d\r\n\r\n" % (head, length)
        return head if without_body else b"".join((head, *parts))


@cache
def _head(status: int, content_type: str, close: bool) -> bytes:
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: {content_type}\r\n"
        f"Connection: {'close' if close else 'keep-alive'}\r\n"
    ).encode("ascii")


class Refusal(NamedTuple):
    """The stream makes no sense from here on: answer this and close."""

    response: Response


class Continue:
    """The client waits to be told that it may send the body."""


Message: TypeAlias = Request | Refusal | Continue

Stage: TypeAlias = Literal["nothing", "head", "body"]


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS
) -> Response:
    """Answer with JSON."""
    return Response(status, (dumps(value),), JSON, headers)


def error(status: int, text: str, headers: Mapping[str, str] = _NO_HEADERS) -> Response:
    """Every answer that is not 200 has this body; clients read the key."""
    return json_response({"error": text}, status, headers)


class OnTheirWay:
    """Bodies that are not complete, of all connections.

    Attributes:
        size_bytes: Of what has come of them.
    """

    __slots__ = ("size_bytes",)

    def __init__(self) -> None:
        self.size_bytes = 0


class Receiver:
    """Turns one connection's bytes into messages. After a refusal it must not be fed again.

    Attributes:
        count: The number of the request that is being received, or was last.
        stage: What is being received of it.
    """

    def __init__(self, limits: Limits, bodies: OnTheirWay) -> None:
        self.count = 0
        self.stage: Stage = "nothing"
        self._limits = limits
        self._most_head_bytes = limits.head_bytes
        self._bodies = bodies
        self._body_bytes = 0
        self._body: list[bytes] = []
        self._parser = httptools.HttpRequestParser(self)
        self._messages: list[Message] = []
        self._refusal: Refusal | None = None
        self._framing_bytes = 0

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that these bytes complete; a refusal is the last one."""
        messages = self._messages = []
        try:
            for piece in (data,) if len(data) <= _PIECE_BYTES else _pieces(data):
                self._framing_bytes += len(piece)
                self._parser.feed_data(piece)
                if self._framing_bytes > self._limits.framing_bytes:
                    self._refuse(431, _TOO_MUCH_FRAMING)
                if self.stage == "head" and self._framing_bytes > self._most_head_bytes:
                    self._refuse_head()
        except _Refused:
            pass
        except httptools.HttpParserCallbackError:
            if self._refusal is None:  # a defect of this file, not of the request
                raise
        except httptools.HttpParserError as e:
            self._refusal = Refusal(error(400, f"not an HTTP/1.1 request: {e}; {_FIX}"))
        if self._refusal:
            self._let_go()
            messages.append(self._refusal)
        self._messages = []  # an idle connection keeps no body
        return messages

    def close(self) -> None:
        """Let go of the parser, which points back here: the garbage collector has enough to do."""
        del self._parser
        self._let_go()

    def _let_go(self) -> None:
        """Of a body that is complete, or will not be."""
        self._bodies.size_bytes -= self._body_bytes
        self._body_bytes = 0
        self._body = []

    def _refuse(self, status: int, text: str, headers: Mapping[str, str] = _NO_HEADERS) -> NoReturn:
        self._refusal = Refusal(error(status, text, headers))
        raise _Refused

    # ---- called by httptools, several times per request: every line is felt

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.count += 1
        self.stage = "head"
        self._url = b""
        self._headers: dict[bytes, bytes] = {}

    def on_url(self, part: bytes) -> None:
        """A part of the request line's URL."""
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer behind a chunked body, which nobody asked for."""
        if self.stage == "head":
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body is read."""
        self.stage = "body"
        if self._parser.should_upgrade():  # httptools would take the body for something else
            self._refuse(400, _OTHER_PROTOCOL)
        headers = self._headers
        if self._framing_bytes > self._most_head_bytes:  # with what has come of the body
            sizes = (len(name) + len(value) for name, value in headers.items())
            if len(self._url) + sum(sizes) > self._most_head_bytes:
                self._refuse_head()
        if int(headers.get(b"content-length", b"0")) > self._limits.body_bytes:
            self._refuse_body()
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            self._messages.append(Continue())

    def on_body(self, part: bytes) -> None:
        """A part of the body."""
        self._framing_bytes -= len(part)
        self._body.append(part)
        self._body_bytes += len(part)
        self._bodies.size_bytes += len(part)
        if self._bodies.size_bytes > self._limits.bodies * self._limits.body_bytes:
            text = "the bodies of other requests, which are on their way, take all the room"
            self._refuse(503, f"{text}; fix: try again later", {"Retry-After": "1"})
        if self._body_bytes > self._limits.body_bytes:  # chunked: no length was announced
            self._refuse_body()

    def on_message_complete(self) -> None:
        """The last byte of a request."""
        body, parser = self._body, self._parser
        self._messages.append(
            Request(
                _text(parser.get_method()),
                self._url,
                self._headers,
                body[0] if len(body) == 1 else b"".join(body),
                parser.should_keep_alive(),
            )
        )
        self._let_go()
        self.stage = "nothing"
        self._framing_bytes = 0

    def _refuse_head(self) -> NoReturn:
        text = f"the headers are longer than {self._limits.head_bytes} bytes"
        self._refuse(431, f"{text}; fix: send fewer, or shorter ones")

    def _refuse_body(self) -> NoReturn:
        self._refuse(
            413,
            f"the body is longer than {self._limits.body_bytes} bytes; fix: send less at a time",
        )


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[start : start + _PIECE_BYTES] for start in range(0, len(view), _PIECE_BYTES))


@cache
def _text(method: bytes) -> str:
    """Of some thirty that there are."""
    return method.decode("ascii")


class _Refused(Exception):  # noqa: N818  # control flow out of httptools' callbacks
    pass
