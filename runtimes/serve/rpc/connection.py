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
from .frames import Code, ConnectionFault, StreamFault
from .headers import LARGEST_BYTES, HeaderReader, Headers
from .stream import Receiver, Stream

FRAME_BYTES: Final = 2**18
"""Longest frame that is received."""

MOST_STREAMS: Final = 1024
"""Calls of one connection at a time."""

MOST_RESETS: Final = 2000
"""Calls that a client may take back within a period: what it costs to begin one is ours."""

PERIOD_S: Final = 5.0
"""How often a connection is looked at: what has been waiting for too long?"""

_HEADERS: Final = bytes((f.HEADERS, f.END_HEADERS))
_DATA: Final = bytes((f.DATA, 0))
_TRAILERS: Final = bytes((f.HEADERS, f.END_HEADERS | f.END_STREAM))
_MOST_CONTINUATIONS: Final = 8
_REFILL: Final = 2**30


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take.

    Attributes:
        message_bytes: Longest message, decompressed.
        receive_s: Time for a request to be complete, and for an answer to be taken.
        idle_s: Time without a call, after which the connection is closed.
    """

    message_bytes: int = 64 * 2**20
    receive_s: float = 30.0
    idle_s: float = 300.0


Opener: TypeAlias = Callable[[Stream, Headers], Receiver]


class Connection(asyncio.Protocol):
    """One client's connection.

    Args:
        opener: Begins a call.
        group: The open connections; this one is in it while it is open.
        limits: What the client may take.
    """

    def __init__(self, opener: Opener, group: "set[Connection]", limits: Limits) -> None:
        self._opener = opener
        self._group = group
        self._limits = limits
        self._headers = HeaderReader()
        self._buffer = b""
        self._greeted = False
        self._block: tuple[int, int, bytes, int] | None = None  # stream, flags, so far, frames
        self._streams: dict[int, Stream] = {}
        self._last = 0  # the newest stream
        self._early: dict[int, None] = {}  # ended before the client had: more may be on its way
        self._refuse_above = f.LARGEST_WINDOW
        self._window = f.DEFAULT_WINDOW  # what may be sent
        self._initial_window = f.DEFAULT_WINDOW
        self._frame_bytes = f.DEFAULT_FRAME
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
            self._write(f.goaway(f.LARGEST_WINDOW, Code.NO_ERROR))

    def close_door(self) -> None:
        """Take no more calls, and close once all are answered."""
        if self._refuse_above == f.LARGEST_WINDOW:
            self._ending = True
            self._refuse_above = self._last
            self._write(f.goaway(self._last, Code.NO_ERROR))
            self._close_if_done()

    def close(self) -> None:
        """Close; what was written is still sent."""
        self._transport.close()

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)  # create_server makes no other
        self._group.add(self)
        self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._look)
        self._write(
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
            self._parse(self._buffer + data if self._buffer else data)
        except ConnectionFault as e:
            self._buffer = b""
            self._abandon()
            self._write(f.goaway(self._last, e.code, str(e)))
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

    # ---- frames

    def _parse(self, data: bytes) -> None:
        place, size = 0, len(data)
        if not self._greeted:
            if size < len(f.PREFACE) and f.PREFACE.startswith(data):
                self._buffer = data
                return
            if not data.startswith(f.PREFACE):
                raise ConnectionFault(Code.PROTOCOL_ERROR, "this port speaks gRPC over HTTP/2")
            self._greeted, place = True, len(f.PREFACE)
        while size - place >= f.HEADER_BYTES:
            length = data[place] << 16 | data[place + 1] << 8 | data[place + 2]
            if length > FRAME_BYTES:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame is too long")
            start = place + f.HEADER_BYTES
            if size - start < length:
                break
            kind, flags = data[place + 3], data[place + 4]
            number = int.from_bytes(data[place + 5 : start], "big") & f.LARGEST_WINDOW
            place = start + length
            try:
                self._frame(kind, flags, number, data[start:place])
            except StreamFault as e:
                self._reset(e.stream, e.code)
        self._buffer = data[place:]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if self._block is not None and kind != f.CONTINUATION:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was interrupted")
        if kind == f.DATA:
            self._on_data(flags, number, payload)
        elif kind == f.HEADERS:
            self._on_headers(flags, number, payload)
        elif kind == f.WINDOW_UPDATE:
            self._on_window_update(number, payload)
        elif kind == f.PING:
            self._on_ping(flags, number, payload)
        elif kind == f.SETTINGS:
            self._on_settings(flags, number, payload)
        elif kind == f.RST_STREAM:
            self._on_reset(number, payload)
        elif kind == f.CONTINUATION:
            self._on_continuation(flags, number, payload)
        elif kind == f.PRIORITY:
            self._on_priority(number, payload)
        elif kind == f.GOAWAY:
            if number or len(payload) < 8:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "GOAWAY is malformed")
            self.close_door()
        elif kind == f.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client cannot push")
        # any other kind is to be ignored (RFC 9113, 5.5)

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not number & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"a client cannot open stream {number}")
        block = f.unpadded(payload, flags)
        if flags & f.PRIORITISED:
            if len(block) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS lack their priority")
            if int.from_bytes(block[:4], "big") & f.LARGEST_WINDOW == number:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream depends on itself")
            block = block[5:]
        if flags & f.END_HEADERS:
            self._on_block(number, flags, block)
        else:
            self._block = (number, flags, block, 0)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block, count = self._block
        block += payload
        if len(block) > 2 * LARGEST_BYTES or count >= _MOST_CONTINUATIONS:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too long")
        self._block = (number, first_flags, block, count + 1)
        if flags & f.END_HEADERS:
            self._block = None
            self._on_block(number, first_flags, block)

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
        stream = self._streams[number] = Stream(self, number, self._initial_window)
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
            self._write(f.window_update(0, self._unread))
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
            self._write(f.window_update(number, stream.unread))
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
        self._resets += 1
        if self._resets > MOST_RESETS:  # CVE-2023-44487
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many calls are taken back")
        self._forget(stream)
        stream.receiver.cancel()

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "PING belongs to no stream")
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING is not eight bytes")
        if not flags & f.ACK:
            self._write(f.frame(f.PING, f.ACK, 0, payload))

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
        found = f.read_settings(payload)
        if f.INITIAL_WINDOW_SIZE in found:
            more = found[f.INITIAL_WINDOW_SIZE] - self._initial_window
            self._initial_window += more
            for stream in self._streams.values():
                stream.window += more
                if stream.window > f.LARGEST_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is above 2^31 - 1")
        self._frame_bytes = min(found.get(f.MAX_FRAME_SIZE, self._frame_bytes), 2**20)
        self._write(f.frame(f.SETTINGS, f.ACK, 0, b""))
        self._pump()

    # ---- sending

    def _on_window_update(self, number: int, payload: bytes) -> None:
        increment = f.read_increment(payload)
        if not number:
            self._window += increment
            if not increment:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a window grows by nothing")
            if self._window > f.LARGEST_WINDOW:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the window is above 2^31 - 1")
        elif (stream := self._streams.get(number)) is not None:
            stream.window += increment
            if not increment:
                raise StreamFault(number, Code.PROTOCOL_ERROR)
            if stream.window > f.LARGEST_WINDOW:
                raise StreamFault(number, Code.FLOW_CONTROL_ERROR)
        elif not number & 1 or number > self._last:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"stream {number} was never opened")
        self._pump()

    def answer(self, stream: Stream, headers: bytes, data: bytes, trailers: bytes) -> None:
        """Send everything at once where there is room, and end the stream."""
        number, size = stream.id, len(data)
        if number not in self._streams:
            return
        if size <= self._window and size <= stream.window and size <= self._frame_bytes:
            self._window -= size
            where = number.to_bytes(4, "big")
            parts = (
                *(len(headers).to_bytes(3, "big"), _HEADERS, where, headers),
                *(size.to_bytes(3, "big"), _DATA, where, data),
                *(len(trailers).to_bytes(3, "big"), _TRAILERS, where, trailers),
            )
            self._write(b"".join(parts))
            self._done(stream)
        else:
            self.send(stream, headers, data)
            self.finish(stream, trailers)

    def send(self, stream: Stream, headers: bytes, data: bytes) -> None:
        """Send headers, unless they are empty, and data as far as there is room."""
        if stream.id in self._streams:
            if headers:
                self._write(f.frame(f.HEADERS, f.END_HEADERS, stream.id, headers))
            if data:
                if not stream.parts:
                    stream.since_s = time.monotonic()
                stream.parts.append(memoryview(data))
            self._flush(stream)

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """Send trailers behind the data, and end the stream."""
        if stream.id in self._streams:
            stream.trailers = trailers
            self._flush(stream)

    def _pump(self) -> None:
        for stream in list(self._streams.values()):
            if stream.parts:
                self._flush(stream)

    def _flush(self, stream: Stream) -> None:
        while stream.parts:
            part = stream.parts[0]
            size = min(len(part), self._window, stream.window, self._frame_bytes)
            if size <= 0:
                return
            self._write(f.head(f.DATA, 0, stream.id, size) + part[:size])
            self._window -= size
            stream.window -= size
            stream.since_s = time.monotonic()
            if size == len(part):
                stream.parts.popleft()
            else:
                stream.parts[0] = part[size:]
        if stream.trailers is not None:
            flags = f.END_HEADERS | f.END_STREAM
            self._write(f.frame(f.HEADERS, flags, stream.id, stream.trailers))
            self._done(stream)

    def _done(self, stream: Stream) -> None:
        """All is answered; what the client still wanted to say is not needed."""
        self._forget(stream)
        if not stream.half_closed:
            self._write(f.reset(stream.id, Code.NO_ERROR))
            stream.receiver.cancel()
        self._close_if_done()

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    # ---- what is held, and for how long

    def hold(self, stream: Stream, size_bytes: int) -> bool:
        """What ``Stream.hold`` says."""
        self._held_bytes += size_bytes - stream.held_bytes
        stream.held_bytes = size_bytes
        return self._held_bytes <= 2 * self._limits.message_bytes

    def _reset(self, number: int, code: Code) -> None:
        self._write(f.reset(number, code))
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
        self._held_bytes -= stream.held_bytes
        stream.held_bytes = 0
        if not self._streams:
            self._since_s = time.monotonic()

    def _abandon(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
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
        limit_s = limits.idle_s if self._greeted and not self._buffer else limits.receive_s
        if not self._streams and now_s - self._since_s > limit_s:
            self.close_door()
            self._transport.close()
