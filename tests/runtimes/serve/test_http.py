"""The connection over real sockets, with a handler that needs no model."""

import asyncio
import gc
import json
import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from edgeport.runtimes.serve.http import Connections, Exchange, Handler
from edgeport.runtimes.serve.http_messages import Limits, OnTheirWay, Receiver, Refusal, Response

GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nConnection: close\r\n\r\n"
SMALL = Limits(body_bytes=100, head_bytes=400, framing_bytes=2000, head_s=20, body_s=20, idle_s=20)
QUICK = replace(SMALL, head_s=0.2, body_s=0.2, idle_s=0.2)


def echo(exchange: Exchange) -> None:
    request = exchange.request
    text = f"{request.method} {request.target.decode()} {request.body.decode()}"
    exchange.respond(Response(200, (text.encode(),)))


def fail(_: Exchange) -> None:
    raise RuntimeError("a defect")


def converse(
    *sent: bytes, handler: Handler = echo, limits: Limits = SMALL, eof: bool = False
) -> bytes:
    """Send each part as a packet of its own, and return all that comes until the server closes."""

    async def client(port: int, _: Connections) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in sent:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if eof:
            writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        return answer

    return with_server(client, handler, limits)


def with_server(
    client: Callable[[int, Connections], Coroutine[Any, Any, bytes]],
    handler: Handler = echo,
    limits: Limits = SMALL,
) -> bytes:
    async def both() -> bytes:
        group = Connections(handler, limits)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context["message"]))
        server = await loop.create_server(group, "127.0.0.1")
        async with server:
            return await client(server.sockets[0].getsockname()[1], group)

    failures: list[str] = []
    answer = uvloop.run(both())
    assert failures == ([] if handler is not fail else ["GET /a failed"])
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


def refusal(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close\r\n" in head + b"\r\n"
    assert b"\r\nContent-Length: %d\r\n" % len(body) in head + b"\r\n"
    return int(head[9:12]), json.loads(body)["error"]


def test_requests_of_one_packet_are_answered_in_order() -> None:
    answer = converse(GET % b"a" + GET % b"b" + LAST)
    assert statuses(answer) == [200, 200, 200]
    assert answer.index(b"GET /a") < answer.index(b"GET /b") < answer.index(b"GET /last")
    assert answer.count(b"Connection: keep-alive") == 2


def test_a_thousand_pipelined_requests_are_answered() -> None:
    assert statuses(converse(GET % b"a" * 1000, LAST)) == [200] * 1001


def test_a_request_may_come_byte_by_byte() -> None:
    message = b"POST /p HTTP/1.1\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    answer = converse(*(message[i : i + 1] for i in range(len(message))))
    assert answer.endswith(b"POST /p abc")


def test_a_chunked_body_is_put_together() -> None:
    head = b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = converse(head, b"3\r\nabc\r\n", b"2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n", LAST)
    assert b"POST /p abcde" in answer
    assert statuses(answer) == [200, 200]


def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    head = b"POST /p HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    assert statuses(converse(head, b"abc", LAST)) == [100, 200, 200]


def test_head_is_answered_without_a_body() -> None:
    answer = converse(b"HEAD /h HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 8\r\n" in answer  # "HEAD /h "
    assert answer.endswith(b"\r\n\r\n")


def test_a_client_that_shuts_its_side_still_gets_its_answer() -> None:
    assert statuses(converse(GET % b"a", eof=True)) == [200]


def test_http_1_0_closes_unless_told_otherwise() -> None:
    assert b"Connection: close" in converse(b"GET /a HTTP/1.0\r\n\r\n")
    kept = b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert statuses(converse(kept, LAST)) == [200, 200]


def test_a_defect_is_500_and_the_connection_goes_on() -> None:
    answer = converse(b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n", handler=fail)
    assert refusal(answer) == (500, "internal error; fix: read the server's log")


POST = b"POST / HTTP/1.1\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (b"HELLO\r\n\r\n", 400, "not an HTTP/1.1 request: Invalid method encountered"),
        (b"\x16\x03\x01\x02\x00", 400, "Invalid method"),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "PRI"),
        (b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 400, "no Upgrade"),
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", 400, "no CONNECT"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "header"),
        (POST + b"Content-Length: -1\r\n\r\n", 400, "Content-Length"),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "Duplicate"),
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n"), 400, "Content-Length"),
        (CHUNKED + b"zz\r\n", 400, "chunk size"),
        (POST + b"Content-Length: 101\r\n\r\n", 413, "longer than 100 bytes; fix: send less"),
        (CHUNKED + b"65\r\n" + b"x" * 101, 413, "longer than 100 bytes; fix: send less"),
        (GET % (b"a" * 400), 431, "the headers are longer than 400 bytes"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 400 + b"\r\n\r\n", 431, "longer than 400 bytes"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 3000, 431, "headers or the chunk sizes are too long"),
        (CHUNKED + b"1;" + b"a" * 3000, 431, "the chunk sizes are too long"),
        (CHUNKED + b"0\r\nT: " + b"a" * 3000, 431, "the headers or the chunk sizes"),
    ],
)
def test_nonsense_is_refused_by_name_and_the_connection_closed(
    sent: bytes, status: int, message: str
) -> None:
    found, text = refusal(converse(sent))
    assert (found, message in text, "; fix: " in text) == (status, True, True), text


@pytest.mark.parametrize("line", [b"A: b\r\n", b"A:" + b" " * 1000 + b"b\r\n"])
@pytest.mark.parametrize("first", [b"", GET % b"first"])
def test_a_head_of_repeats_or_spaces_is_too_long_even_in_one_read(
    line: bytes, first: bytes
) -> None:
    sent = b"GET / HTTP/1.1\r\n" + line * (120_000 // len(line)) + b"\r\n"
    messages = Receiver(Limits(), OnTheirWay()).feed(first + sent)
    assert isinstance(messages[-1], Refusal)
    assert messages[-1].response.status == 431
    assert len(messages) == 1 + bool(first)


@pytest.mark.parametrize("sent", [b"GET / HT", POST + b"Content-Length: 3\r\n\r\nab"])
def test_half_a_request_is_given_up(sent: bytes) -> None:
    answer = converse(sent, limits=QUICK)
    status, text = refusal(answer)
    assert status == 408
    assert re.fullmatch(r"no complete (head|body) within 0\.2 s; fix: send it faster", text)


def test_what_came_before_nonsense_is_answered() -> None:
    assert statuses(converse(GET % b"a" + b"nonsense\r\n\r\n" + GET % b"b")) == [200, 400]


def test_a_refused_client_that_goes_on_sending_still_sees_why() -> None:
    body = b"x" * 2**20
    head = POST + b"Content-Length: %d\r\n\r\n" % (len(body) * 8)
    assert refusal(converse(head, *[body] * 8))[0] == 413


def test_an_idle_connection_is_closed_without_a_word() -> None:
    assert converse(limits=QUICK) == b""
    assert statuses(converse(GET % b"a", limits=QUICK)) == [200]


def test_a_client_that_trickles_is_cut_off() -> None:
    async def client(port: int, _: Connections) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = asyncio.ensure_future(reader.read())
        writer.write(b"GET / HTTP/1.1\r\nA: ")
        for _letter in range(100):  # 5 s, and less than the limit of bytes
            writer.write(b"a")
            if (await asyncio.wait([answer], timeout=0.05))[0]:
                break
        writer.close()
        return await answer

    assert refusal(with_server(client, limits=QUICK))[0] == 408


def test_a_client_that_does_not_read_is_cut_off() -> None:
    def large(exchange: Exchange) -> None:
        exchange.respond(Response(200, (b"x" * 2**25,)))

    async def client(port: int, group: Connections) -> bytes:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(GET % b"a")
        await wait_until(lambda: len(group.open) == 1)
        await wait_until(lambda: not group.open)
        writer.close()
        return b""

    assert with_server(client, large, QUICK) == b""


def test_an_answer_that_takes_longer_than_the_limits_is_given() -> None:
    def slow(exchange: Exchange) -> None:
        asyncio.get_running_loop().call_later(0.5, echo, exchange)

    half = GET % b"a" + b"GET /b HTTP/1.1\r\n"
    answer = converse(half, b"Connection: close\r\n\r\n", handler=slow, limits=QUICK)
    assert statuses(answer) == [200, 200]


def test_a_client_that_pipelines_is_read_no_further_until_it_is_answered() -> None:
    async def client(port: int, group: Connections) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET % b"a")
        await wait_until(lambda: any(connection.busy for connection in group.open))
        (connection,) = group.open
        assert connection._transport.is_reading()
        writer.write(GET % b"b")
        await wait_until(lambda: not connection._transport.is_reading())
        writer.write(LAST)
        release.set()
        answer = await reader.read()
        writer.close()
        return answer

    def blocked(exchange: Exchange) -> None:
        waiting.append(asyncio.ensure_future(later(exchange)))

    async def later(exchange: Exchange) -> None:
        await release.wait()
        echo(exchange)

    waiting: list[asyncio.Future[None]] = []

    release = asyncio.Event()
    assert statuses(with_server(client, blocked)) == [200, 200, 200]


def test_an_ending_connection_answers_what_it_has_and_says_close() -> None:
    async def client(port: int, group: Connections) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await wait_until(lambda: len(group.open) == 1)
        (connection,) = group.open
        group.end()
        assert not connection.busy
        writer.write(GET % b"a" + GET % b"b")
        answer = await reader.read()
        writer.close()
        return answer

    answer = with_server(client)
    assert statuses(answer) == [200, 200]
    assert answer.count(b"Connection: close") == 1


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_closed_connection_leaves_nothing_for_the_garbage_collector() -> None:
    async def client(port: int, group: Connections) -> bytes:
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(GET % b"a")
            await reader.readuntil(b"GET /a ")
            writer.close()
        while group.open:
            await asyncio.sleep(0.001)
        return b""

    gc.collect()
    gc.disable()
    try:
        with_server(client)
        assert not [each for each in gc.get_objects() if type(each) is Receiver]
    finally:
        gc.enable()


def test_an_idle_connection_keeps_no_body() -> None:
    async def client(port: int, group: Connections) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /p HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        await reader.readuntil(b"POST /p abc")
        (connection,) = group.open
        kept = len(connection._receiver._messages)
        writer.close()
        return b"%d" % kept

    assert with_server(client) == b"0"


def test_bodies_on_their_way_take_no_more_than_a_few_whole_ones() -> None:
    head = b"POST /p HTTP/1.1\r\nContent-Length: 100\r\n\r\n"

    async def client(port: int, group: Connections) -> bytes:
        async def send(size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + b"a" * size)
            return reader, writer

        many = [await send(90) for _ in range(8)]
        await wait_until(lambda: group.bodies.size_bytes == 720)
        reader, refused = await send(90)
        answer = await reader.read()
        many[0][1].close()
        await wait_until(lambda: group.bodies.size_bytes == 630)
        reader, writer = await send(100)
        await reader.readuntil(b"POST /p " + b"a" * 100)
        assert group.bodies.size_bytes == 630
        for each in (refused, writer, *(writer for _, writer in many)):
            each.close()
        await wait_until(lambda: group.bodies.size_bytes == 0)
        return answer

    answer = with_server(client)
    assert refusal(answer) == (503, "the bodies of other requests, which are on their way, take "
                                    "all the room; fix: try again later")  # fmt: skip
    assert b"\r\nRetry-After: 1\r\n" in answer


def test_an_answer_that_is_not_sent_yet_keeps_a_connection_busy() -> None:
    size = 30_000_000

    def much(exchange: Exchange) -> None:
        exchange.respond(Response(200, (bytes(size),)))

    async def client(port: int, group: Connections) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**16)
        writer.write(LAST)
        await reader.readuntil(b"\r\n\r\n")
        busy = group.busy
        left = size
        while left > 0:
            left -= len(await reader.read(2**20))
        while group.busy:
            await asyncio.sleep(0.001)
        writer.close()
        return b"busy" if busy else b"idle"

    assert with_server(client, much) == b"busy"
