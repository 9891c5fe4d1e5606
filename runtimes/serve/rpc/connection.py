"""One HTTP/2 connection of a client (RFC 9113): frames in, calls out, answers within its windows.

What may be received is not limited by windows, which would cost frames, but by what is held: a
message that is too long, or one too many at a time, is refused before it is complete.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

from . import frames as f
from .frame_reader import FRAME_BYTES, Frame, FrameReader
from .frames import Code, ConnectionFault, StreamFault
from .headers import LARGEST_BYTES, HeaderReader, Headers
from .sender import Sender
from .stream import Receiver, Stream

MOST_STREAMS: Final = 1024
"""Calls of one connection at a time."""

MOST_RESETS: Final = 2000
"""Calls that a client may have ended within a period: what it costs to begin one is ours."""

PERIOD_S: Final = 5.0
"""How often a connection is looked at: what has been waiting for too long?"""

_REFILL: Final = 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take.

    Attributes:
        message_bytes: Longest message, decompressed.
        messages: How many of the longest may be on their way together, over all connections.
        receive_s: Time for a request to be complete, and for an answer to be taken.
        idle_s: Time without a call, after which the connection is closed.
    """

    message_bytes: int = 64 * 2**20
    messages: int = 8
    receive_s: float = 30.0
    idle_s: float = 300.0


Opener: TypeAlias = Callable[[Stream, Headers], Receiver]


class Group(set["Connection"]):
    """Open connections.

    Attributes:
        held_bytes: Of messages that are not complete.
    """

    held_bytes = 0


class Connection(asyncio.Protocol):
    """One client's connection.

    Args:
        opener: Begins a call.
        group: The open connections; this one is in it while it is open.
        limits: What the client may take.
    """

    def __init__(self, opener: Opener, group: Group, limits: Limits) -> None:
        self._opener = opener
        self._group = group
        self._limits = limits
        self._reader = FrameReader()
        self._headers = HeaderReader()
        self._streams: dict[int, Stream] = {}
        self._last = 0  # the newest stream
        self._early: dict[int, None] = {}  # ended before the client had: more may be on its way
        self._refuse_above = f.LARGEST_WINDOW
        self._unread = 0  # received since the window was opened again
        self._held_bytes = 0
        self._resets = 0
        self._ending = False
        self._writable = True
        self._since_s = time.monotonic()  # idle, or unable to write

    @property
    def busy(self) -> bool:
        """Whether a call is being received, or an answer is not sent yet."""
        return bool(self._streams) or self._transport.get_write_buffer_size() > 0

    def end(self) -> None:
        """Announce the end; calls that are on their way are taken, see ``close_door``."""
        if not self._ending:
            self._ending = True
            self._sender.write(f.goaway(f.LARGEST_WINDOW, Code.NO_ERROR))

    def close_door(self) -> None:
        """Take no more calls, and close once all are answered."""
        if self._refuse_above == f.LARGEST_WINDOW:
            self._ending = True
            self._refuse_above = self._last
            self._sender.write(f.goaway(self._last, Code.NO_ERROR))
            self._close_if_done()

    def close(self) -> None:
        """Close; what was written is still sent."""
        self._transport.close()

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)  # create_server makes no other
        self._sender = Sender(self._transport, self._streams, self._done)
        self._group.add(self)
        self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._look)
        self._sender.write(
            f.settings(
                {
                    f.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
                    f.INITIAL_WINDOW_SIZE: f.LARGEST_WINDOW,
                    f.MAX_FRAME_SIZE: FRAME_BYTES,
                    f.MAX_HEADER_LIST_SIZE: LARGEST_BYTES,
                }
            )
            + f.window_update(0, f.LARGEST_WINDOW - f.DEFAULT_WINDOW)
        )

    def data_received(self, data: bytes) -> None:
        """Some bytes have arrived."""
        try:
            for frame in self._reader.feed(data):
                try:
                    self._on_frame(frame)
                except StreamFault as e:
                    if e.stream in self._streams:
                        self._count_reset()
                    self._reset(e.stream, e.code)
        except ConnectionFault as e:
            self._reader.clear()
            self._abandon()
            self._sender.write(f.goaway(self._last, e.code, str(e)))
            self._transport.close()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to: hear no more of it meanwhile."""
        self._writable, self._since_s = False, time.monotonic()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable, self._since_s = True, time.monotonic()
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._group.discard(self)
        self._timer.cancel()
        self._abandon()
        del self._sender  # which points back here: the garbage collector has enough to do

    # ---- frames

    def _on_frame(self, frame: Frame) -> None:
        kind, flags, number, payload = frame
        if kind == f.DATA:
            self._on_data(flags, number, payload)
        elif kind == f.HEADERS:
            self._on_block(number, flags, payload)
        elif kind == f.WINDOW_UPDATE:
            self._on_window_update(number, payload)
        elif kind == f.PING:
            self._on_ping(flags, number, payload)
        elif kind == f.SETTINGS:
            self._on_settings(flags, number, payload)
        elif kind == f.RST_STREAM:
            self._on_reset(number, payload)
        elif kind == f.PRIORITY:
            self._on_priority(number, payload)
        elif kind == f.GOAWAY:
            if number or len(payload) < 8:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY is malformed")
            self.close_door()
        elif kind == f.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client cannot push")
        # any other kind is to be ignored (RFC 9113, 5.5)

    def _on_block(self, number: int, flags: int, block: bytes) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            self._on_trailers(stream, flags, block)
            return
        headers = self._headers.read(block)  # also of what is refused: the table goes on
        if number in self._early:
            return
        if number <= self._last:
            raise ConnectionFault(Code.STREAM_CLOSED, f"stream {number} was closed")
        if number > self._refuse_above:
            raise StreamFault(number, Code.REFUSED_STREAM)
        self._last = number
        if len(self._streams) >= MOST_STREAMS:
            raise StreamFault(number, Code.REFUSED_STREAM)
        if headers is None:
            raise StreamFault(number, Code.PROTOCOL_ERROR)
        stream = self._streams[number] = Stream(self, self._sender, number)
        stream.receiver = self._opener(stream, headers)
        if flags & f.END_STREAM:
            self._on_end(stream)

    def _on_trailers(self, stream: Stream, flags: int, block: bytes) -> None:
        self._headers.read(block)
        if stream.half_closed:
            raise StreamFault(stream.id, Code.STREAM_CLOSED)
        if not flags & f.END_STREAM:
            raise StreamFault(stream.id, Code.PROTOCOL_ERROR)
        self._on_end(stream)

    def _on_data(self, flags: int, number: int, payload: bytes) -> None:
        self._unread += len(payload)
        if self._unread > _REFILL:
            self._sender.write(f.window_update(0, self._unread))
            self._unread = 0
        stream = self._streams.get(number)
        if stream is None:
            if not number & 1 or number > self._last:
                raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {number} was never opened")
            if number not in self._early:
                raise ConnectionFault(Code.STREAM_CLOSED, f"stream {number} was closed")
            return
        if stream.half_closed:
            raise StreamFault(number, Code.STREAM_CLOSED)
        stream.unread += len(payload)
        if stream.unread > _REFILL:
            self._sender.write(f.window_update(number, stream.unread))
            stream.unread = 0
        if flags & f.PADDED:
            payload = f.unpadded(payload, flags)
        if payload:
            stream.receiver.data(payload)
        if flags & f.END_STREAM and number in self._streams:
            self._on_end(stream)

    def _on_end(self, stream: Stream) -> None:
        stream.half_closed = True
        stream.receiver.end()

    def _on_reset(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "RST_STREAM is not four bytes")
        if not number & 1 or number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {number} was never opened")
        stream = self._streams.get(number)
        if stream is None:
            return
        self._count_reset()
        self._forget(stream)
        stream.receiver.cancel()

    def _count_reset(self) -> None:
        """A client has a call ended: says so (CVE-2023-44487), or breaks a rule (CVE-2025-8671)."""
        self._resets += 1
        if self._resets > MOST_RESETS:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many calls are taken back")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING belongs to no stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING is not eight bytes")
        if not flags & f.ACK:
            self._sender.write(f.frame(f.PING, f.ACK, 0, payload))

    def _on_priority(self, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY belongs to a stream")
        if len(payload) != 5:
            raise StreamFault(number, Code.FRAME_SIZE_ERROR)
        if int.from_bytes(payload[:4], "big") & f.LARGEST_WINDOW == number:
            raise StreamFault(number, Code.PROTOCOL_ERROR)

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS belong to no stream")
        if flags & f.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an ACK has no settings")
            return
        self._sender.adapt(f.read_settings(payload))
        self._sender.write(f.frame(f.SETTINGS, f.ACK, 0, b""))
        self._sender.pump()

    def _on_window_update(self, number: int, payload: bytes) -> None:
        increment = f.read_increment(payload)
        if not number:
            self._sender.widen(increment)
        elif (stream := self._streams.get(number)) is not None:
            self._sender.widen_stream(stream, increment)
        elif not number & 1 or number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {number} was never opened")
        self._sender.pump()

    # ---- what is held, and for how long

    def _done(self, stream: Stream) -> None:
        """All is answered; what the client still wanted to say is not needed."""
        self._forget(stream)
        if not stream.half_closed:
            self._sender.write(f.reset(stream.id, Code.NO_ERROR))
            stream.receiver.cancel()
        self._close_if_done()

    def hold(self, stream: Stream, size_bytes: int) -> bool:
        """What ``Stream.hold`` says."""
        more, limits, group = size_bytes - stream.held_bytes, self._limits, self._group
        self._held_bytes += more
        group.held_bytes += more
        stream.held_bytes = size_bytes
        return (
            self._held_bytes <= 2 * limits.message_bytes
            and group.held_bytes <= limits.messages * limits.message_bytes
        )

    def _reset(self, number: int, code: Code) -> None:
        self._sender.write(f.reset(number, code))
        if (stream := self._streams.get(number)) is not None:
            self._forget(stream)
            stream.receiver.cancel()
        self._close_if_done()

    def _forget(self, stream: Stream) -> None:
        del self._streams[stream.id]
        if not stream.half_closed:
            if len(self._early) >= MOST_STREAMS:
                del self._early[next(iter(self._early))]
            self._early[stream.id] = None
        self.hold(stream, 0)
        if not self._streams:
            self._since_s = time.monotonic()

    def _abandon(self) -> None:
        streams = list(self._streams.values())
        self._streams.clear()
        for stream in streams:
            self.hold(stream, 0)
            stream.receiver.cancel()

    def _close_if_done(self) -> None:
        if self._ending and not self._streams and self._refuse_above != f.LARGEST_WINDOW:
            self._transport.close()

    def _look(self) -> None:
        """End what has been waiting for too long."""
        now_s, limits = time.monotonic(), self._limits
        self._resets = 0
        self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._look)
        if not self._writable:
            if now_s - self._since_s > limits.receive_s:
                self._transport.abort()
            return
        for stream in list(self._streams.values()):
            late = not stream.half_closed and not stream.endless
            begun_s = stream.since_s if stream.parts else stream.opened_s
            if (late or stream.parts) and now_s - begun_s > limits.receive_s:
                self._reset(stream.id, Code.CANCEL)
        limit_s = limits.idle_s if self._reader.at_rest else limits.receive_s
        if not self._streams and now_s - self._since_s > limit_s:
            self.close_door()
            self._transport.close()
