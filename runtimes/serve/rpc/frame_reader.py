"""A client's bytes cut into frames, header blocks put together (RFC 9113, 3.4, 4.1 and 6.10)."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from . import frames as f
from .frames import Code, ConnectionFault
from .headers import LARGEST_BYTES

FRAME_BYTES: Final = 2**18
"""Longest frame that is received."""

_MOST_CONTINUATIONS: Final = 8


class Frame(NamedTuple):
    """A frame. HEADERS have all of their block, without padding and priority."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class FrameReader:
    """Reads one connection's frames. After a fault it must not be fed again."""

    def __init__(self) -> None:
        self._greeted = False
        self._buffer = b""
        self._block: tuple[int, int, bytes, int] | None = None  # stream, flags, so far, frames

    @property
    def at_rest(self) -> bool:
        """Whether the client has said hello, and no frame is half received."""
        return self._greeted and not self._buffer

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that these bytes complete.

        Raises:
            ConnectionFault: They are none.
        """
        if self._buffer:
            data = self._buffer + data
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
            frame = Frame(kind, flags, number, data[start:place])
            if self._block is None and kind != f.HEADERS and kind != f.CONTINUATION:
                yield frame
            elif (whole := self._headers(frame)) is not None:
                yield whole
        self._buffer = data[place:]

    def clear(self) -> None:
        """Let go of what is half received."""
        self._buffer = b""

    def _headers(self, frame: Frame) -> Frame | None:
        """The whole block, once it is there."""
        if frame.kind == f.CONTINUATION:
            return self._continued(frame)
        if self._block is not None:  # of whatever kind this one is
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was interrupted")
        if not frame.stream & 1:
            text = f"a client cannot open stream {frame.stream}"
            raise ConnectionFault(Code.PROTOCOL_ERROR, text)
        block = f.unpadded(frame.payload, frame.flags)
        if frame.flags & f.PRIORITISED:
            if len(block) < 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS lack their priority")
            if int.from_bytes(block[:4], "big") & f.LARGEST_WINDOW == frame.stream:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream depends on itself")
            block = block[5:]
        if frame.flags & f.END_HEADERS:
            return frame._replace(payload=block)
        self._block = (frame.stream, frame.flags, block, 0)
        return None

    def _continued(self, frame: Frame) -> Frame | None:
        if self._block is None or self._block[0] != frame.stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block, count = self._block
        block += frame.payload
        if len(block) > 2 * LARGEST_BYTES or count >= _MOST_CONTINUATIONS:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too long")
        self._block = (frame.stream, first_flags, block, count + 1)
        if not frame.flags & f.END_HEADERS:
            return None
        self._block = None
        return Frame(f.HEADERS, first_flags, frame.stream, block)
