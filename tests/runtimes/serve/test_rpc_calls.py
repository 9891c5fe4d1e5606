"""Calls over a stream that is none: what is heard, and until when."""

from typing import cast

import pytest

from edgeport.runtimes.serve.rpc.calls import Call, Status
from edgeport.runtimes.serve.rpc.connection import Limits
from edgeport.runtimes.serve.rpc.stream import Stream


class Sink:
    """Takes what a call sends."""

    def __init__(self) -> None:
        self.ends: list[bytes] = []
        self.endless, self.held_bytes = False, 0

    def finish(self, trailers: bytes) -> None:
        self.ends.append(trailers)

    def hold(self, size_bytes: int) -> bool:
        return True


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def test_nothing_is_heard_of_a_stream_that_has_failed() -> None:
    heard: list[bytes] = []

    def hear(call: Call, message: bytes) -> None:
        heard.append(message)
        if message == b"2":
            call.fail(Status.RESOURCE_EXHAUSTED, "enough")

    sink = Sink()
    call = Call(cast(Stream, sink), {}, Limits(), hear, lambda _: heard.append(b"end"))
    call.data(b"".join(framed(b"%d" % number) for number in range(9)))
    call.end()
    assert heard == [b"0", b"1", b"2"]
    assert len(sink.ends) == 1


@pytest.mark.parametrize("timeout", [b"soon", b"", b"123456789S", b"1s"])
def test_a_timeout_that_is_none_is_none(timeout: bytes) -> None:
    call = Call(cast(Stream, Sink()), {b"grpc-timeout": timeout}, Limits(), lambda *_: None)
    assert call.deadline is None
    known = Call(cast(Stream, Sink()), {b"grpc-timeout": b"1S"}, Limits(), lambda *_: None)
    assert known.deadline is not None
