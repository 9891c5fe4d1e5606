"""One HTTP/1.1 connection: keep-alive, pipelining, time limits, an orderly end.

No task and no timer is made per request: the handler answers when it can, and one sweep over all
connections keeps the time limits.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, cast

from .http_messages import (
    CONTINUE,
    Limits,
    Message,
    OnTheirWay,
    Receiver,
    Refusal,
    Request,
    Response,
    error,
)

DEFAULTS: Final = Limits()

_MOST_SWEEP_S: Final = 1.0
_PROBE_S: Final = 0.02
_TCP_CLOSE: Final = 7  # of linux/tcp_states.h


class Cancellable(Protocol):
    """Work that may be dropped."""

    def cancel(self) -> object:
        """Nobody wants it any more."""
        ...


class Exchange:
    """A request that is to be answered, once.

    Attributes:
        request: What came.
        work: What the handler has others do for it; it is cancelled if the client leaves.
    """

    __slots__ = ("_connection", "request", "work")

    def __init__(self, connection: Connection, request: Request) -> None:
        self.request = request
        self.work: Cancellable | None = None
        self._connection = connection

    def respond(self, response: Response) -> None:
        """Answer; what comes too late, or twice, is thrown away."""
        self._connection.answered(self, response)

    def fail(self, defect: Exception) -> None:
        """Answer for a defect of ours: the client gets an answer, the log the trace."""
        target = self.request.target.decode("latin-1")
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"{self.request.method} {target} failed", "exception": defect}
        )
        self.respond(error(500, "internal error; fix: read the server's log"))


Handler: TypeAlias = Callable[[Exchange], None]


class Connections:
    """All open connections of a server.

    Args:
        handler: Answers an exchange, at once or later. What it raises is answered with 500.
        limits: What each client may take.
    """

    def __init__(self, handler: Handler, limits: Limits = DEFAULTS) -> None:
        self.handler = handler
        self.limits = limits
        self.open: set[Connection] = set()
        self.ending = False
        self.bodies = OnTheirWay()
        shortest_s = min(limits.head_s, limits.body_s, limits.idle_s, limits.linger_s)
        self._sweep_s = min(_MOST_SWEEP_S, shortest_s / 4)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> Connection:
        """Make the protocol of a new connection."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._sweep_s, self._sweep)
        return Connection(self)

    @property
    def busy(self) -> bool:
        """Whether a request is being received or answered."""
        return any(connection.busy for connection in self.open)

    def end(self) -> None:
        """Announce the end in the answers that follow, and close behind the last one of each."""
        self.ending = True

    def close(self) -> None:
        """Close all; what was written is still sent."""
        for connection in list(self.open):
            connection.close()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.open):
            connection.check(now)
        self._timer = self._loop.call_later(self._sweep_s, self._sweep) if self.open else None


class Connection(asyncio.Protocol):
    """Reads requests, hands them to the handler one after the other, writes its answers."""

    def __init__(self, group: Connections) -> None:
        self._group = group
        self._limits = group.limits
        self._receiver = Receiver(group.limits, group.bodies)
        self._queue: deque[Message] = deque()
        self._exchange: Exchange | None = None
        self._advancing = False
        self._writable = True
        self._state: object = None  # at the last sweep
        self._state_since = time.monotonic()
        self._refused = False  # what still arrives is thrown away
        self._ended = False  # the client has said its last
        self._closing = False

    @property
    def busy(self) -> bool:
        """Whether a request is being received, or an answer is not sent yet."""
        return (
            self._exchange is not None
            or bool(self._queue)
            or (self._receiver.stage != "nothing" and not self._refused)
            or self._transport.get_write_buffer_size() > 0
        )

    def close(self) -> None:
        """Close; what was written is still sent."""
        self._closing = True
        self._transport.close()

    def check(self, now: float) -> None:
        """Keep the time limits; bytes that trickle in give no more time."""
        stage = self._receiver.stage
        state = (
            self._receiver.count,
            stage,
            self._exchange is None,
            self._writable,
            self._refused,
            self._closing,
        )
        if state != self._state:
            self._state, self._state_since = state, now
            return
        limits, waited_s = self._limits, now - self._state_since
        if self._refused:
            if waited_s > limits.linger_s:
                self._transport.abort()
        elif self._closing or not self._writable:  # it does not read its answers
            if waited_s > limits.body_s:
                self._transport.abort()
        elif self._exchange is not None:  # it is we who let the client wait
            self._state_since = now
        elif stage == "nothing":
            if waited_s > limits.idle_s:
                self._transport.close()
        elif waited_s > (limits.head_s if stage == "head" else limits.body_s):
            limit_s = limits.head_s if stage == "head" else limits.body_s
            text = f"no complete {'head' if stage == 'head' else 'body'} within {limit_s:g} s"
            self._refuse(error(408, f"{text}; fix: send it faster"))

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)  # create_server makes no other
        self._group.open.add(self)

    def data_received(self, data: bytes) -> None:
        """Some bytes have arrived."""
        if self._refused or self._closing:
            return
        self._queue.extend(self._receiver.feed(data))
        if self._queue:
            self._advance()
            if self._queue:  # a client that pipelines must wait until its first ones are answered
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client has nothing more to say, but may still listen."""
        self._ended = True
        if self._exchange is not None and not self._refused:
            self._probe()
        return self._exchange is not None or bool(self._queue)

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        self._writable = False

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable = True
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed: nobody wants what was asked for here."""
        self._closing = True
        self._group.open.discard(self)
        self._queue.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.work is not None:
            exchange.work.cancel()
        self._receiver.close()

    # ---- answers

    def answered(self, exchange: Exchange, response: Response) -> None:
        """Write the answer, and go on with what waits."""
        if exchange is not self._exchange:
            return
        self._exchange = None
        request = exchange.request
        close = not request.keep_alive or ((self._group.ending or self._ended) and not self._queue)
        self._transport.write(response.render(close=close, without_body=request.method == "HEAD"))
        if close:
            self._queue.clear()
            self.close()
        elif self._queue:
            self._advance()

    def _advance(self) -> None:
        if self._advancing:
            return
        self._advancing = True
        queue = self._queue
        while queue and self._exchange is None and self._writable and not self._closing:
            self._take(queue.popleft())
        self._advancing = False
        if queue or self._closing or self._ended:
            return
        if not self._transport.is_reading():
            self._transport.resume_reading()

    def _take(self, message: Message) -> None:
        if isinstance(message, Request):
            exchange = self._exchange = Exchange(self, message)
            try:
                self._group.handler(exchange)
            except Exception as e:
                exchange.fail(e)
        elif isinstance(message, Refusal):
            self._refuse(message.response)
        else:
            self._transport.write(CONTINUE)

    def _refuse(self, response: Response) -> None:
        """Answer, say that this was all, and go on reading for a while."""
        self._refused = True
        if not self._transport.is_closing():
            self._transport.write(response.render(close=True))
            self._transport.write_eof()

    # ---- clients that leave

    def _probe(self) -> None:
        """Has the client left, or only said its last? A socket that is closed resets what it gets.

        An interim answer may be sent to any client at any time (RFC 9110, 15.2).
        """
        exchange = self._exchange
        if exchange is not None and not self._closing:
            if exchange.request.keep_alive or b"connection" in exchange.request.headers:
                self._transport.write(CONTINUE)
            asyncio.get_running_loop().call_later(_PROBE_S, self._look, exchange)

    def _look(self, exchange: Exchange) -> None:
        if exchange is not self._exchange or self._closing:
            return
        found: socket.socket = self._transport.get_extra_info("socket")
        if found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
            self._transport.abort()
        else:
            asyncio.get_running_loop().call_later(_PROBE_S, self._look, exchange)
