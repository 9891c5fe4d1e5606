"""What is sent to one client: at once, or as far as its windows have room (RFC 9113, 5.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from . import frames as f
from .frames import Code, ConnectionFault, StreamFault
from .stream import Stream

_HEADERS: Final = bytes((f.HEADERS, f.END_HEADERS))
_DATA: Final = bytes((f.DATA, 0))
_TRAILERS: Final = bytes((f.HEADERS, f.END_HEADERS | f.END_STREAM))


class Sender:
    """One connection's way out.

    Args:
        transport: Where to.
        streams: Those that are open, by number. What comes for others is not sent.
        done: Told of a stream of which everything is sent.

    Attributes:
        initial_window: How much a new stream may send.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        streams: Mapping[int, Stream],
        done: Callable[[Stream], None],
    ) -> None:
        self.initial_window = f.DEFAULT_WINDOW
        self._transport = transport
        self._streams = streams
        self._done = done
        self._window = f.DEFAULT_WINDOW
        self._frame_bytes = f.DEFAULT_FRAME

    def write(self, data: bytes) -> None:
        """Send frames as they are, unless the connection is being closed."""
        if not self._transport.is_closing():
            self._transport.write(data)

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
            self.write(b"".join(parts))
            self._done(stream)
        else:
            self.send(stream, headers, data)
            self.finish(stream, trailers)

    def send(self, stream: Stream, headers: bytes, data: bytes) -> None:
        """Send headers, unless they are empty, and data as far as there is room."""
        if stream.id in self._streams:
            if headers:
                self.write(f.frame(f.HEADERS, f.END_HEADERS, stream.id, headers))
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

    # ---- what the client has room for

    def adapt(self, settings: Mapping[int, int]) -> None:
        """The client says how much it takes.

        Raises:
            ConnectionFault: A window becomes too large.
        """
        if f.INITIAL_WINDOW_SIZE in settings:
            more = settings[f.INITIAL_WINDOW_SIZE] - self.initial_window
            self.initial_window += more
            for stream in self._streams.values():
                stream.window += more
                if stream.window > f.LARGEST_WINDOW:
                    raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "a window is above 2^31 - 1")
        self._frame_bytes = min(settings.get(f.MAX_FRAME_SIZE, self._frame_bytes), 2**20)

    def widen(self, increment: int) -> None:
        """The client has more room for all streams together.

        Raises:
            ConnectionFault: It has none, or too much.
        """
        self._window += increment
        if not increment:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a window grows by nothing")
        if self._window > f.LARGEST_WINDOW:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the window is above 2^31 - 1")

    def widen_stream(self, stream: Stream, increment: int) -> None:
        """The client has more room for one stream.

        Raises:
            StreamFault: It has none, or too much.
        """
        stream.window += increment
        if not increment:
            raise StreamFault(stream.id, Code.PROTOCOL_ERROR)
        if stream.window > f.LARGEST_WINDOW:
            raise StreamFault(stream.id, Code.FLOW_CONTROL_ERROR)

    def pump(self) -> None:
        """Send what has been waiting for room."""
        for stream in list(self._streams.values()):
            if stream.parts:
                self._flush(stream)

    def _flush(self, stream: Stream) -> None:
        while stream.parts:
            part = stream.parts[0]
            size = min(len(part), self._window, stream.window, self._frame_bytes)
            if size <= 0:
                return
            self.write(f.head(f.DATA, 0, stream.id, size) + part[:size])
            self._window -= size
            stream.window -= size
            stream.since_s = time.monotonic()
            if size == len(part):
                stream.parts.popleft()
            else:
                stream.parts[0] = part[size:]
        if stream.trailers is not None:
            flags = f.END_HEADERS | f.END_STREAM
            self.write(f.frame(f.HEADERS, flags, stream.id, stream.trailers))
            self._done(stream)
