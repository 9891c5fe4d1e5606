"""The judges of servers: they know a right answer from a wrong one, and count what is lost."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeport.runtimes.serve.requests import InferResponse
from edgeport.runtimes.serve.rpc.encoding import encode
from scripts.serving.load import closed_loop, open_loop
from scripts.serving.malformed import binaries, bodies, headed, raws
from scripts.serving.reference import Case, Reference, wrong
from scripts.serving.wire import Form, requests


def answer(case: Case, form: Form) -> tuple[bytes, bytes]:
    """Head and body of the right answer."""
    outputs: list[dict[str, Any]] = [
        {"name": n, "shape": list(a.shape), "data": a.ravel().tolist()}
        for n, a in case.outputs.items()
    ]
    if form == "json":
        return b"", json.dumps({"outputs": outputs}).encode()
    if form == "grpc":
        return b"", encode(InferResponse("mlp", "1", case.outputs, ""))
    for output, array in zip(outputs, case.outputs.values(), strict=True):
        output["parameters"] = {"binary_data_size": array.nbytes}
        del output["data"]
    head = json.dumps({"outputs": outputs}).encode()
    data = b"".join(array.tobytes() for array in case.outputs.values())
    return b"HTTP/1.1 200\r\nInference-Header-Content-Length: %d" % len(head), head + data


@pytest.mark.parametrize("form", ["json", "binary", "grpc"])
def test_an_answer_is_right_only_for_its_own_request(packed: Path, form: Form) -> None:
    sent = requests(form, Reference(packed), 2)
    head, body = answer(sent.cases[0], form)
    for _ in range(2):  # judged, and known
        assert sent.is_right(0, head, body)
        assert not sent.is_right(1, head, body)
        assert not sent.is_right(0, head, body[:-1])


def test_what_is_wrong_is_said() -> None:
    y = np.array([[1.0, 2.0]], np.float32)
    case = Case({}, {"y": y, "label": np.array([1])})
    good = {"y": y * np.float32(1 + 1e-6), "label": np.array([1])}
    assert wrong(good, case) is None
    assert wrong({"y": y}, case) == "no output 'label'"
    assert wrong(good | {"label": np.array([2])}, case) == "'label' differs"
    assert str(wrong(good | {"y": y.astype(np.float64)}, case)).startswith("'y' is float64")
    assert str(wrong(good | {"y": y[0]}, case)).startswith("'y' is float32(2,)")
    for bad in (y * np.float32(1.001), np.full_like(y, np.nan)):
        assert str(wrong(good | {"y": bad}, case)).startswith("'y' is off by")


def test_there_are_more_than_a_hundred_wrong_requests() -> None:
    kinds = (bodies(), binaries(), headed(), raws("/v2/models/m/infer"))
    assert sum(map(len, kinds)) > 100
    assert len(set(bodies().values())) == len(bodies())


@pytest.fixture
def replies() -> Iterator[tuple[int, list[bytes]]]:
    """A server that says what is in the list, one reply after the other; then it closes."""
    script: list[bytes] = []
    ports: list[int] = []
    started, stop = threading.Event(), threading.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while script and await reader.read(65_536):
            writer.write(script.pop(0))
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        async with server:
            while not stop.is_set():  # from another thread
                await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    started.wait(10)
    yield ports[0], script
    stop.set()
    thread.join(10)


def reply(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), more, body)


def test_right_wrong_refused_and_lost_are_counted(
    packed: Path, replies: tuple[int, list[bytes]]
) -> None:
    port, script = replies
    sent = requests("json", Reference(packed), 1)
    _, body = answer(sent.cases[0], "json")
    script += [reply(body), reply(b"{}"), reply(body), reply(b"{}", b"503 Busy"), reply(body)[:-2]]
    outcome = closed_loop(port, sent, 1, 0.5)
    assert (len(outcome.latencies_ns), outcome.wrong) == (2, 1)
    assert outcome.statuses == {200: 3, 503: 1, 0: 1}


def test_a_client_that_is_asked_to_go_sends_nothing_more(
    packed: Path, replies: tuple[int, list[bytes]]
) -> None:
    port, script = replies
    sent = requests("json", Reference(packed), 1)
    _, body = answer(sent.cases[0], "json")
    script += [reply(body), reply(body, more=b"Connection: close\r\n"), reply(body)]
    assert closed_loop(port, sent, 1, 0.3).statuses == {200: 2}


def test_requests_at_random_times_are_as_many_as_they_should_be(
    packed: Path, replies: tuple[int, list[bytes]]
) -> None:
    port, script = replies
    sent = requests("json", Reference(packed), 1)
    _, body = answer(sent.cases[0], "json")
    script += [reply(body)] * 1000
    outcome = open_loop(port, sent, 200, 0.5, 1)
    assert 60 < outcome.statuses[200] < 140
    assert outcome.latency_ms(50) > 0
