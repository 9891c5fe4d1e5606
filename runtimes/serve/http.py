"""One HTTP/1.1 connection: keep-alive, pipelining, time limits, an orderly end."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, cast

from .messages import (
    CONTINUE,
    Continue,
    Limits,
    Message,
    Receiver,
    Refusal,
    Request,
    Response,
    error,
)

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

DEFAULTS: Final = Limits()


class Connection(asyncio.Protocol):
    """Reads requests, hands them to the handler one after the other, writes its answers.

    Args:
        handler: Answers a request. What it raises is answered with 500.
        group: The open connections; this one is in it while it is open.
        limits: What the client may take.
    """

    def __init__(
        self, handler: Handler, group: "set[Connection]", limits: Limits = DEFAULTS
    ) -> None:
        self._handler = handler
        self._group = group
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._receiver = Receiver(limits)
        self._queue: deque[Message] = deque()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timed_stage: tuple[int, str] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._refused = False  # what still arrives is thrown away
        self._ending = False  # no request after those that are here already

    @property
    def busy(self) -> bool:
        """Whether a request is being received or answered."""
        return self._task is not None or (
            self._receiver.stage[1] != "nothing" and not self._refused
        )

    def end(self) -> None:
        """Announce the end in the answers that follow, and close behind the last one."""
        self._ending = True

    def close(self) -> None:
        """Close; what was written is still sent."""
        self._transport.close()

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)  # create_server makes no other
        self._group.add(self)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Some bytes have arrived."""
        if self._refused:
            return
        messages = self._receiver.feed(data)
        self._refused = bool(messages) and isinstance(messages[-1], Refusal)
        self._queue.extend(messages)
        self._watch()
        if self._queue and self._task is None:
            self._task = self._loop.create_task(self._answer_all())
        elif self._queue:  # a client that pipelines must wait until its first ones are answered
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client has nothing more to say, but may still listen."""
        self._ending = True
        return self._task is not None

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._group.discard(self)
        self._queue.clear()
        self._writable.set()
        if self._timer:
            self._timer.cancel()

    # ---- answers

    async def _answer_all(self) -> None:
        try:
            while self._queue:
                await self._answer(self._queue.popleft())
        except TimeoutError:  # it does not read its answers
            self._transport.abort()
        finally:
            self._task = None
        if not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    async def _answer(self, message: Message) -> None:
        if isinstance(message, Continue):
            self._write(CONTINUE)
        elif isinstance(message, Refusal):
            self._write(message.response.render(close=True))
            self._linger()
        else:
            response = await self._handle(message)
            close = not message.keep_alive or (self._ending and not self._queue)
            self._write(response.render(close=close, without_body=message.method == "HEAD"))
            if close and not self._transport.is_closing():
                self._queue.clear()
                self._set_timer(self._limits.receive_s, self._transport.abort)
                self._transport.close()
        if not self._writable.is_set():
            await asyncio.wait_for(self._writable.wait(), self._limits.receive_s)

    async def _handle(self, request: Request) -> Response:
        try:
            return await self._handler(request)
        except Exception as e:  # a defect of ours: the client gets an answer, the log the trace
            context = {"message": f"{request.method} {request.path} failed", "exception": e}
            self._loop.call_exception_handler(context)
            return error(500, "internal error; the server's log says more")

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _linger(self) -> None:
        if not self._transport.is_closing():
            self._transport.write_eof()
            self._set_timer(self._limits.linger_s, self._transport.abort)

    # ---- time limits

    def _watch(self) -> None:
        """Start the clock when a new stage begins; bytes that trickle in give no more time."""
        stage = self._receiver.stage
        if stage != self._timed_stage and not self._refused:
            self._timed_stage = stage
            limit_s = self._limits.idle_s if stage[1] == "nothing" else self._limits.receive_s
            self._set_timer(limit_s, self._expire)

    def _expire(self) -> None:
        if self._task is not None:  # it is we who let the client wait
            self._timed_stage = None
            self._watch()
        elif self._receiver.stage[1] == "nothing":
            self._transport.close()
        else:
            text = f"no complete request within {self._limits.receive_s:g} s"
            self._refused = True
            self._write(error(408, text).render(close=True))
            self._linger()

    def _set_timer(self, seconds: float, action: Callable[[], None]) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, action)
