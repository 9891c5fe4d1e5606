"""The rules of HTTP/2 (RFC 9113), without a network: bytes in, bytes out."""

import asyncio
import struct
from collections.abc import Callable, Iterator
from typing import Any, cast

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeport.runtimes.serve.rpc import connection as module
from edgeport.runtimes.serve.rpc import frames as f
from edgeport.runtimes.serve.rpc.connection import Connection, Group, Limits
from edgeport.runtimes.serve.rpc.frames import Code
from edgeport.runtimes.serve.rpc.headers import Headers, literal
from edgeport.runtimes.serve.rpc.stream import Stream

PAIRS = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), (":authority", "h")]
BLOCK = hpack.Encoder().encode(PAIRS)
OPEN = f.frame(f.HEADERS, f.END_HEADERS, 1, BLOCK)
ASK = f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, BLOCK)
HELLO = f.PREFACE + f.settings({})
STATUS = b"\x88"
TRAILERS = literal(b"grpc-status", b"0")


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = self.aborted = self.paused = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Heard:
    """A receiver that keeps what it hears."""

    def __init__(self, stream: Stream, headers: Headers) -> None:
        self.stream, self.headers = stream, headers
        self.body, self.ended, self.cancelled = b"", False, False

    def data(self, part: bytes) -> None:
        self.body += part

    def end(self) -> None:
        self.ended = True

    def cancel(self) -> None:
        self.cancelled = True


class Client:
    """A connection, its wire, and the calls that it began."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.calls: list[Heard] = []
        self.group = Group()
        self.wire = Wire()
        self.connection = Connection(self._open, self.group, limits or Limits())
        self.connection.connection_made(self.wire)

    def _open(self, stream: Stream, headers: Headers) -> Heard:
        self.calls.append(Heard(stream, headers))
        return self.calls[-1]

    def says(self, *data: bytes) -> "Client":
        self.connection.data_received(b"".join(data))
        return self

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of what came back since the last time."""
        found, data = [], self.wire.sent
        self.wire.sent = b""
        while data:
            size = int.from_bytes(data[:3], "big")
            number = int.from_bytes(data[5:9], "big")
            found.append((data[3], data[4], number, data[9 : 9 + size]))
            data = data[9 + size :]
        return found

    def fault(self) -> Code | None:
        """Why the server said goodbye."""
        codes = [payload for kind, _, _, payload in self.frames() if kind == f.GOAWAY]
        return Code(int.from_bytes(codes[-1][4:8], "big")) if codes else None

    def resets(self) -> list[tuple[int, Code]]:
        return [
            (number, Code(int.from_bytes(payload, "big")))
            for kind, _, number, payload in self.frames()
            if kind == f.RST_STREAM
        ]


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """Connections want a running loop for their timers, which nobody waits for here."""

    class Loop:
        def call_later(self, *_: object) -> Any:
            return Loop()

        def cancel(self) -> None: ...

    asyncio._set_running_loop(cast(asyncio.AbstractEventLoop, Loop()))  # get_running_loop's
    yield
    asyncio._set_running_loop(None)


def test_a_call_is_heard_and_answered() -> None:
    client = Client().says(HELLO, OPEN, f.frame(f.DATA, f.END_STREAM, 1, b"abc"))
    (call,) = client.calls
    assert (call.body, call.ended, call.headers[b":path"]) == (b"abc", True, b"/a")
    assert client.connection.busy
    client.frames()
    call.stream.answer(STATUS, b"xyz", TRAILERS)
    assert client.frames() == [
        (f.HEADERS, f.END_HEADERS, 1, STATUS),
        (f.DATA, 0, 1, b"xyz"),
        (f.HEADERS, f.END_HEADERS | f.END_STREAM, 1, TRAILERS),
    ]
    assert not client.connection.busy
    assert not call.cancelled


@settings(max_examples=40)
@given(st.data())
def test_bytes_may_come_in_any_pieces(data: st.DataObject) -> None:
    sent = HELLO + OPEN + f.frame(f.DATA, 0, 1, b"abc") + f.frame(f.DATA, f.END_STREAM, 1, b"de")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    client = Client()
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        client.says(sent[start:end])
    assert (client.calls[0].body, client.calls[0].ended) == (b"abcde", True)


def test_the_client_is_told_what_it_may_do_and_its_settings_are_acknowledged() -> None:
    first, window, ack = Client().says(HELLO).frames()
    assert dict(struct.iter_unpack(">HI", first[3])) == {
        f.MAX_CONCURRENT_STREAMS: 1024,
        f.INITIAL_WINDOW_SIZE: 2**31 - 1,
        f.MAX_FRAME_SIZE: 2**18,
        f.MAX_HEADER_LIST_SIZE: 2**14,
    }
    assert window[:3] == (f.WINDOW_UPDATE, 0, 0)
    assert ack == (f.SETTINGS, f.ACK, 0, b"")


def test_padding_and_priority_are_stripped() -> None:
    headers = b"\x03" + bytes(4) + b"\x10" + BLOCK + bytes(3)
    client = Client().says(
        HELLO,
        f.frame(f.HEADERS, f.END_HEADERS | f.PADDED | f.PRIORITISED, 1, headers),
        f.frame(f.DATA, f.PADDED | f.END_STREAM, 1, b"\x02abc\0\0"),
    )
    assert client.calls[0].body == b"abc"


def test_headers_may_come_in_pieces() -> None:
    client = Client().says(HELLO, f.frame(f.HEADERS, f.END_STREAM, 1, BLOCK[:2]))
    client.says(f.frame(f.CONTINUATION, 0, 1, BLOCK[2:4]))
    client.says(f.frame(f.CONTINUATION, f.END_HEADERS, 1, BLOCK[4:]))
    assert client.calls[0].ended


def test_trailers_of_a_request_end_it() -> None:
    client = Client().says(HELLO, OPEN, f.frame(f.DATA, 0, 1, b"a"), ASK)
    assert client.calls[0].ended


def test_a_ping_is_answered_and_an_answer_is_not() -> None:
    client = Client().says(HELLO)
    client.frames()
    client.says(f.frame(f.PING, 0, 0, b"12345678"), f.frame(f.PING, f.ACK, 0, b"87654321"))
    assert client.frames() == [(f.PING, f.ACK, 0, b"12345678")]


def test_what_is_not_known_is_passed_over() -> None:
    client = Client().says(HELLO, f.frame(0x20, 0xFF, 7, b"?"), f.settings({0x99: 1}), ASK)
    assert client.calls[0].ended


BROKEN = {
    "HTTP/1.1": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Code.PROTOCOL_ERROR),
    "another preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", Code.PROTOCOL_ERROR),
    "frame too long": (HELLO + f.head(f.DATA, 0, 1, 2**18 + 1), Code.FRAME_SIZE_ERROR),
    "DATA of stream 0": (HELLO + f.frame(f.DATA, 0, 0, b"a"), Code.PROTOCOL_ERROR),
    "DATA of an idle stream": (HELLO + f.frame(f.DATA, 0, 1, b"a"), Code.PROTOCOL_ERROR),
    "HEADERS of stream 0": (HELLO + f.frame(f.HEADERS, 4, 0, BLOCK), Code.PROTOCOL_ERROR),
    "HEADERS of an even stream": (HELLO + f.frame(f.HEADERS, 4, 2, BLOCK), Code.PROTOCOL_ERROR),
    "a lower stream": (
        HELLO + f.frame(f.HEADERS, 5, 5, BLOCK) + f.frame(f.HEADERS, 5, 3, BLOCK),
        Code.STREAM_CLOSED,
    ),
    "headers interrupted": (
        HELLO + f.frame(f.HEADERS, 0, 1, BLOCK[:2]) + f.frame(f.PING, 0, 0, bytes(8)),
        Code.PROTOCOL_ERROR,
    ),
    "continuation of nothing": (HELLO + f.frame(f.CONTINUATION, 4, 1, b""), Code.PROTOCOL_ERROR),
    "continuation of another": (
        HELLO + f.frame(f.HEADERS, 0, 1, BLOCK[:2]) + f.frame(f.CONTINUATION, 4, 3, BLOCK[2:]),
        Code.PROTOCOL_ERROR,
    ),
    "continuations without end": (
        HELLO + f.frame(f.HEADERS, 0, 1, b"") + f.frame(f.CONTINUATION, 0, 1, b"") * 9,
        Code.ENHANCE_YOUR_CALM,
    ),
    "headers without end": (
        HELLO
        + f.frame(f.HEADERS, 0, 1, bytes(2**14))
        + f.frame(f.CONTINUATION, 0, 1, bytes(2**14 + 1)),
        Code.ENHANCE_YOUR_CALM,
    ),
    "headers that cannot be decoded": (
        HELLO + f.frame(f.HEADERS, 5, 1, b"\xff\xff"),
        Code.COMPRESSION_ERROR,
    ),
    "padding of DATA": (HELLO + OPEN + f.frame(f.DATA, 8, 1, b"\x05abc"), Code.PROTOCOL_ERROR),
    "padding of HEADERS": (HELLO + f.frame(f.HEADERS, 12, 1, b""), Code.PROTOCOL_ERROR),
    "priority cut off": (HELLO + f.frame(f.HEADERS, 0x24, 1, b"abc"), Code.FRAME_SIZE_ERROR),
    "a stream that depends on itself": (
        HELLO + f.frame(f.HEADERS, 0x24, 1, b"\0\0\0\1\0" + BLOCK),
        Code.PROTOCOL_ERROR,
    ),
    "PRIORITY of stream 0": (HELLO + f.frame(f.PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    "RST_STREAM of 3 bytes": (
        HELLO + OPEN + f.frame(f.RST_STREAM, 0, 1, bytes(3)),
        Code.FRAME_SIZE_ERROR,
    ),
    "RST_STREAM of an idle stream": (HELLO + f.reset(7, Code.CANCEL), Code.PROTOCOL_ERROR),
    "SETTINGS of a stream": (HELLO + f.frame(f.SETTINGS, 0, 1, b""), Code.PROTOCOL_ERROR),
    "SETTINGS of 5 bytes": (HELLO + f.frame(f.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    "ACK with settings": (HELLO + f.frame(f.SETTINGS, 1, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    "ENABLE_PUSH 2": (HELLO + f.settings({f.ENABLE_PUSH: 2}), Code.PROTOCOL_ERROR),
    "window of 2^31": (
        HELLO + f.settings({f.INITIAL_WINDOW_SIZE: 2**31}),
        Code.FLOW_CONTROL_ERROR,
    ),
    "frame size of 1": (HELLO + f.settings({f.MAX_FRAME_SIZE: 1}), Code.PROTOCOL_ERROR),
    "frame size of 2^24": (HELLO + f.settings({f.MAX_FRAME_SIZE: 2**24}), Code.PROTOCOL_ERROR),
    "PUSH_PROMISE": (HELLO + f.frame(f.PUSH_PROMISE, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "PING of a stream": (HELLO + f.frame(f.PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "PING of 7 bytes": (HELLO + f.frame(f.PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "GOAWAY of a stream": (HELLO + f.frame(f.GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "WINDOW_UPDATE of 3 bytes": (
        HELLO + f.frame(f.WINDOW_UPDATE, 0, 0, bytes(3)),
        Code.FRAME_SIZE_ERROR,
    ),
    "WINDOW_UPDATE by 0": (HELLO + f.window_update(0, 0), Code.PROTOCOL_ERROR),
    "WINDOW_UPDATE above 2^31": (
        HELLO + f.window_update(0, 2**31 - 1),
        Code.FLOW_CONTROL_ERROR,
    ),
    "WINDOW_UPDATE of an idle stream": (HELLO + f.window_update(1, 5), Code.PROTOCOL_ERROR),
    "windows above 2^31": (
        HELLO
        + OPEN
        + f.window_update(1, 2**31 - 1 - 65_535)
        + f.settings({f.INITIAL_WINDOW_SIZE: 2**31 - 1}),
        Code.FLOW_CONTROL_ERROR,
    ),
}


@pytest.mark.parametrize(("sent", "code"), BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_the_connections_rules_ends_it(sent: bytes, code: Code) -> None:
    client = Client().says(sent)
    assert client.fault() == code
    assert client.wire.closed
    assert all(call.cancelled for call in client.calls)


UPPER = hpack.Encoder().encode([*PAIRS, ("Upper", "1")])
OFFENDED = {
    "malformed headers": (f.frame(f.HEADERS, 5, 1, UPPER), Code.PROTOCOL_ERROR),
    "PRIORITY of 4 bytes": (OPEN + f.frame(f.PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    "PRIORITY on itself": (
        OPEN + f.frame(f.PRIORITY, 0, 1, b"\0\0\0\1\0"),
        Code.PROTOCOL_ERROR,
    ),
    "DATA after the end": (ASK + f.frame(f.DATA, 0, 1, b"a"), Code.STREAM_CLOSED),
    "HEADERS after the end": (ASK + ASK, Code.STREAM_CLOSED),
    "trailers that do not end": (OPEN + OPEN, Code.PROTOCOL_ERROR),
    "WINDOW_UPDATE by 0": (OPEN + f.window_update(1, 0), Code.PROTOCOL_ERROR),
    "WINDOW_UPDATE above 2^31": (OPEN + f.window_update(1, 2**31 - 1), Code.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize(("sent", "code"), OFFENDED.values(), ids=OFFENDED.keys())
def test_what_breaks_a_streams_rules_ends_that_stream(sent: bytes, code: Code) -> None:
    client = Client().says(HELLO, sent)
    assert client.resets() == [(1, code)]
    assert all(call.cancelled for call in client.calls)
    client.says(f.frame(f.HEADERS, 5, 3, BLOCK))
    assert client.calls[-1].ended


def test_what_comes_behind_an_early_answer_is_passed_over() -> None:
    client = Client().says(HELLO, OPEN)
    client.calls[0].stream.finish(STATUS)
    client.says(f.frame(f.DATA, 0, 1, b"late"), f.frame(f.DATA, f.END_STREAM, 1, b""))
    client.says(f.window_update(1, 5), f.reset(1, Code.CANCEL))
    assert client.resets() == [(1, Code.NO_ERROR)]
    assert not client.wire.closed


def test_data_of_a_stream_that_both_have_ended_are_a_fault() -> None:
    client = Client().says(HELLO, ASK)
    client.calls[0].stream.finish(STATUS)
    assert client.says(f.frame(f.DATA, 0, 1, b"a")).fault() == Code.STREAM_CLOSED


def test_a_call_that_is_taken_back_is_cancelled() -> None:
    client = Client().says(HELLO, ASK, f.reset(1, Code.CANCEL))
    (call,) = client.calls
    assert call.cancelled
    client.frames()
    call.stream.answer(STATUS, b"late", TRAILERS)
    assert client.frames() == []


@pytest.mark.parametrize(
    "ends",
    [
        lambda number: f.reset(number, Code.CANCEL),
        lambda number: f.frame(f.DATA, 0, number, b"late"),
    ],
)
def test_too_many_calls_taken_back_end_the_connection(
    ends: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_RESETS", 3)
    client = Client().says(HELLO)
    for number in range(1, 9, 2):
        client.says(f.frame(f.HEADERS, 5, number, BLOCK), ends(number))
    assert client.fault() == Code.ENHANCE_YOUR_CALM


def test_more_calls_than_are_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_STREAMS", 2)
    client = Client().says(HELLO)
    for number in (1, 3, 5):
        client.says(f.frame(f.HEADERS, f.END_HEADERS, number, BLOCK))
    assert client.resets() == [(5, Code.REFUSED_STREAM)]
    assert len(client.calls) == 2


@settings(max_examples=60)
@given(
    st.integers(0, 5_000),
    st.integers(0, 3_000),
    st.lists(st.tuples(st.booleans(), st.integers(1, 2_000)), max_size=30),
)
def test_no_more_is_sent_than_there_is_room_for(
    size: int, window: int, updates: list[tuple[bool, int]]
) -> None:
    """The connection's window is its default; the stream's is what the client says."""
    client = Client().says(f.PREFACE, f.settings({f.INITIAL_WINDOW_SIZE: window}), ASK)
    client.frames()
    data = bytes(index % 251 for index in range(size))
    client.calls[0].stream.answer(STATUS, data, TRAILERS)
    room, received, ended = window, b"", False
    for stream, increment in [(True, 0), *updates, (True, 10_000)]:
        if increment:
            client.says(f.window_update(int(stream), increment))
            room += increment if stream else 0
        for kind, flags, _, payload in client.frames():
            if kind == f.DATA:
                received += payload
            ended |= bool(kind == f.HEADERS and flags & f.END_STREAM)
        assert len(received) == min(size, room)
        assert ended == (room >= size)
    assert received == data
    assert not client.connection.busy


def test_long_answers_are_cut_into_frames_of_the_clients_size() -> None:
    client = Client().says(HELLO, ASK)
    client.frames()
    client.calls[0].stream.answer(STATUS, bytes(40_000), TRAILERS)
    sizes = [len(payload) for kind, _, _, payload in client.frames() if kind == f.DATA]
    assert sizes == [16_384, 16_384, 40_000 - 2 * 16_384]


def test_messages_too_many_to_hold_are_told_so() -> None:
    client = Client(Limits(message_bytes=100)).says(HELLO, OPEN)
    stream = client.calls[0].stream
    assert client.connection.hold(stream, 200)
    assert not client.connection.hold(stream, 201)
    assert client.connection.hold(stream, 0)


def test_all_connections_together_hold_no_more_than_a_few_messages() -> None:
    limits = Limits(message_bytes=100, messages=3)
    clients = [Client(limits) for _ in range(2)]
    one, other = (client.connection for client in clients)
    other._group = one._group
    streams = [client.says(HELLO, OPEN).calls[0].stream for client in clients]
    assert one.hold(streams[0], 200)
    assert other.hold(streams[1], 100)
    assert not other.hold(streams[1], 101)
    one.connection_lost(None)
    assert other.hold(streams[1], 200)
    other.connection_lost(None)
    assert one._group.held_bytes == 0


def test_the_end_is_announced_and_what_is_on_its_way_is_taken() -> None:
    client = Client().says(HELLO, ASK)
    client.frames()
    client.connection.end()
    client.says(f.frame(f.HEADERS, 5, 3, BLOCK))
    client.connection.close_door()
    client.says(f.frame(f.HEADERS, 5, 5, BLOCK))
    goaways = [
        (kind, int.from_bytes(payload[:4], "big"))
        for kind, _, _, payload in client.frames()
        if kind in (f.GOAWAY, f.RST_STREAM)
    ]
    refused = int(Code.REFUSED_STREAM)
    assert goaways == [(f.GOAWAY, 2**31 - 1), (f.GOAWAY, 3), (f.RST_STREAM, refused)]
    assert not client.wire.closed
    for call in client.calls:
        call.stream.answer(STATUS, b"", TRAILERS)
    assert len(client.calls) == 2
    assert client.wire.closed


def test_a_client_that_says_goodbye_gets_its_answers() -> None:
    client = Client().says(HELLO, ASK, f.goaway(0, Code.NO_ERROR))
    assert not client.wire.closed
    client.calls[0].stream.answer(STATUS, b"", TRAILERS)
    assert client.wire.closed


def test_a_client_that_does_not_read_is_not_read_from_and_then_dropped() -> None:
    client = Client(Limits(receive_s=0)).says(HELLO)
    client.connection.pause_writing()
    assert client.wire.paused
    client.connection.resume_writing()
    assert not client.wire.paused
    client.connection.pause_writing()
    client.connection._look()
    assert client.wire.aborted


@pytest.mark.parametrize("sent", [b"", f.PREFACE[:5], HELLO + OPEN[:7]])
def test_half_a_request_is_not_waited_for(sent: bytes) -> None:
    client = Client(Limits(receive_s=-1)).says(sent)
    client.connection._look()
    assert client.wire.closed


def test_an_idle_connection_is_kept_for_its_time() -> None:
    for idle_s, closed in ((100.0, False), (-1.0, True)):
        client = Client(Limits(receive_s=-1, idle_s=idle_s)).says(HELLO)
        client.connection._look()
        assert client.wire.closed is closed


def test_a_call_that_does_not_go_on_is_cancelled() -> None:
    client = Client(Limits(receive_s=-1)).says(HELLO, OPEN, f.frame(f.HEADERS, 5, 3, BLOCK))
    client.connection._look()
    assert client.resets() == [(1, Code.CANCEL)]
    assert [call.cancelled for call in client.calls] == [True, False]


def test_an_answer_that_is_not_taken_is_cancelled() -> None:
    client = Client(Limits(receive_s=-1))
    client.says(f.PREFACE, f.settings({f.INITIAL_WINDOW_SIZE: 0}), ASK)
    client.calls[0].stream.answer(STATUS, b"abc", TRAILERS)
    client.connection._look()
    assert client.resets() == [(1, Code.CANCEL)]


def test_a_lost_connection_cancels_its_calls() -> None:
    client = Client().says(HELLO, OPEN)
    assert client.connection in client.group
    client.connection.connection_lost(None)
    assert client.calls[0].cancelled
    assert not client.group


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)
        ),
        max_size=12,
    )
)
def test_noise_is_answered_in_an_orderly_way(parts: list[tuple[int, int, int, bytes]]) -> None:
    client = Client().says(HELLO)
    for kind, flags, stream, payload in parts:
        if not client.wire.closed:
            client.says(f.frame(kind, flags, stream, payload))
    client.frames()
    if not client.wire.closed and client.connection._reader._block is None:
        client.says(f.frame(f.PING, 0, 0, b"12345678"))
        assert client.frames()[-1] == (f.PING, f.ACK, 0, b"12345678")
