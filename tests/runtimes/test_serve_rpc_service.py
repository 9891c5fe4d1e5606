"""The gRPC port, with Google's own client and real engines."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import uvloop

from edgeport.runtimes import UsageError
from edgeport.runtimes import open as open_bundle
from edgeport.runtimes.serve.core import Core
from edgeport.runtimes.serve.counters import Board
from edgeport.runtimes.serve.repository import Catalogue, Repository, opener
from edgeport.runtimes.serve.rpc import CallLimits, Door, messages
from edgeport.runtimes.serve.rpc import frames as f
from edgeport.runtimes.serve.work import Bounds
from edgeport.runtimes.session import Options

Array = np.ndarray[Any, Any]
INFERENCE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
CODE = grpc.StatusCode


class Server:
    """A core and its gRPC port, in a thread."""

    def __init__(self, bundle: Path, bounds: Bounds, limits: CallLimits, *, control: bool) -> None:
        self.door = Door("127.0.0.1", 0, 1, limits)
        self.core: Core
        self._bundle, self._bounds, self._control = bundle, bounds, control
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._live()))
        self._thread.start()
        self._started.result(60)
        self.channel = grpc.insecure_channel(
            self.address, [("grpc.max_receive_message_length", 2**28)]
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.door.port}"

    async def _live(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        catalogue = Catalogue([self._bundle])
        repository = Repository(opener("ort-cpu", Options(threads=1), None), self._bounds, Board())

        async def control(action: str, name: str) -> None:
            if action == "load":
                await repository.load(catalogue.places(name))
            else:
                repository.unload(name)

        self.core = Core(repository, control if self._control else None)
        answering = await self.door.start(self.core, 0)
        await repository.load(catalogue.places("mlp"))
        self._started.set_result(None)
        await self._stop.wait()
        self.core.draining = True
        await answering.drain()
        await asyncio.sleep(0.01)
        repository.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.channel.close()
        self.door.close()

    def ask(self, method: str, _service: str = INFERENCE, **fields: Any) -> Any:
        """Call a method that takes and gives one message."""
        request, response = messages_of(method, _service)
        call = self.channel.unary_unary(
            f"/{_service}/{method}", request.SerializeToString, response.FromString
        )
        return call(request(**fields), timeout=30)

    def infer(self, x: Array, timeout: float = 30, **more: Any) -> Any:
        call = self.channel.unary_unary(
            f"/{INFERENCE}/ModelInfer",
            messages.ModelInferRequest.SerializeToString,
            messages.ModelInferResponse.FromString,
        )
        compression = more.pop("compression", None)
        return call(request_for(x, **more), timeout=timeout, compression=compression)


def messages_of(method: str, service: str) -> tuple[Any, Any]:
    name = f"Health{method}" if service == HEALTH else method
    name = name.replace("Watch", "Check")
    return getattr(messages, f"{name}Request"), getattr(messages, f"{name}Response")


def request_for(x: Array, **more: Any) -> Any:
    tensor = {"name": "x", "datatype": "FP32", "shape": x.shape}
    named = {"model_name": "mlp", "inputs": [tensor], "raw_input_contents": [x.tobytes()]}
    return messages.ModelInferRequest(**(named | more))


def logits(response: Any) -> Array:
    (index,) = [i for i, output in enumerate(response.outputs) if output.name == "logits"]
    raw = response.raw_output_contents[index]
    return np.frombuffer(raw, np.float32).reshape(response.outputs[index].shape)


def draw(rows: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(rows, 8)).astype(np.float32)


Make = Callable[..., Server]


@pytest.fixture
def make(packed: Path) -> Iterator[Make]:
    made: list[Server] = []

    def start(
        bounds: Bounds | None = None, limits: CallLimits | None = None, control: bool = False
    ) -> Server:
        server = Server(packed, bounds or Bounds(), limits or CallLimits(), control=control)
        made.append(server)
        return server

    yield start
    for server in made:
        server.stop()
        server.join()


def refusal(call: Callable[[], object]) -> tuple[Any, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details()


def test_the_answer_is_that_of_the_session(make: Make, packed: Path) -> None:
    server, x = make(), draw(5)
    response = server.infer(x, id="ünïcode")
    assert (response.model_name, response.model_version, response.id) == ("mlp", "1", "ünïcode")
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("logits", "FP32", [5, 3]),
        ("label", "INT64", [5]),
    ]
    with open_bundle(packed, threads=1) as session:
        expected = session.run({"x": x})
    np.testing.assert_array_equal(logits(response), expected["logits"])
    label = np.frombuffer(response.raw_output_contents[1], np.int64)
    np.testing.assert_array_equal(label, expected["label"])


def test_a_part_of_the_outputs_and_the_best_classes(make: Make) -> None:
    server, x = make(), draw(2)
    best = {"name": "logits", "parameters": {"classification": {"int64_param": 2}}}
    response = server.infer(x, outputs=[best])
    (output,) = response.outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [2, 2])
    (raw,) = response.raw_output_contents
    (size,) = struct.unpack_from("<I", raw)
    value, index = raw[4 : 4 + size].split(b":")
    scores = logits(server.infer(x))
    assert int(index) == scores[0].argmax()
    assert float(value) == pytest.approx(scores[0].max(), abs=1e-5)


def test_compressed_requests_get_compressed_answers(make: Make) -> None:
    server, x = make(), draw(64)
    plain = logits(server.infer(x))
    for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        np.testing.assert_array_equal(logits(server.infer(x, compression=algorithm)), plain)


def test_descriptions(make: Make) -> None:
    server = make()
    assert server.ask("ServerLive").live
    assert server.ask("ServerReady").ready
    assert server.ask("ModelReady", name="mlp").ready
    assert not server.ask("ModelReady", name="nothing").ready
    assert not server.ask("ModelReady", name="mlp", version="2").ready
    assert server.ask("ServerMetadata").name == "edgeport"
    metadata = server.ask("ModelMetadata", name="mlp")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("x", "FP32", [-1, 8])
    ]
    config = server.ask("ModelConfig", name="mlp").config
    assert (config.name, list(config.input[0].dims), config.input[0].data_type) == ("mlp", [8], 11)
    assert config.max_batch_size == 64
    (entry,) = server.ask("RepositoryIndex").models
    assert (entry.name, entry.version, entry.state) == ("mlp", "1", "READY")
    server.infer(draw(3))
    (found,) = server.ask("ModelStatistics").model_stats
    assert (found.name, found.inference_count, found.execution_count) == ("mlp", 3, 1)
    assert found.inference_stats.success.count == 1
    for method in ("ModelMetadata", "ModelConfig", "ModelStatistics"):
        code, text = refusal(partial(server.ask, method, name="nothing"))
        assert code is CODE.NOT_FOUND
        assert "no model is named 'nothing'" in text


def test_health(make: Make) -> None:
    server = make()
    for service in ("", INFERENCE, HEALTH):
        assert server.ask("Check", HEALTH, service=service).status == 1
    assert refusal(lambda: server.ask("Check", HEALTH, service="a")) == (
        CODE.NOT_FOUND,
        "no service is named 'a'",
    )
    assert dict(server.ask("List", HEALTH).statuses).keys() == {"", INFERENCE, HEALTH}


def test_who_watches_health_hears_of_the_end(make: Make) -> None:
    server = make()
    watch = server.channel.unary_stream(
        f"/{HEALTH}/Watch",
        messages.HealthCheckRequest.SerializeToString,
        messages.HealthCheckResponse.FromString,
    )(messages.HealthCheckRequest())
    assert next(watch).status == 1
    server.stop()
    assert [message.status for message in watch] == [2]


def test_who_watches_health_hears_of_every_change(make: Make) -> None:
    server = make(control=True)
    watch = server.channel.unary_stream(
        f"/{HEALTH}/Watch",
        messages.HealthCheckRequest.SerializeToString,
        messages.HealthCheckResponse.FromString,
    )(messages.HealthCheckRequest(service=INFERENCE), timeout=30)
    assert next(watch).status == 1
    server.ask("RepositoryModelUnload", model_name="mlp")
    assert next(watch).status == 2
    server.ask("RepositoryModelLoad", model_name="mlp")
    assert next(watch).status == 1
    watch.cancel()


def test_models_are_loaded_and_unloaded_where_that_is_allowed(make: Make) -> None:
    server = make(control=True)
    server.ask("RepositoryModelUnload", model_name="mlp")
    assert not server.ask("ModelReady", name="mlp").ready
    code, text = refusal(lambda: server.infer(draw(1)))
    assert (code, "is not ready" in text) == (CODE.FAILED_PRECONDITION, True)
    server.ask("RepositoryModelLoad", model_name="mlp")
    assert server.infer(draw(1)).outputs
    assert refusal(lambda: server.ask("RepositoryModelLoad", model_name="a"))[0] is CODE.NOT_FOUND
    asked: dict[str, Any] = {"model_name": "mlp", "parameters": {"config": {"string_param": "{}"}}}
    code, text = refusal(lambda: server.ask("RepositoryModelLoad", **asked))
    assert (code, "without parameters" in text) == (CODE.INVALID_ARGUMENT, True)
    forbidden = make()
    code, text = refusal(lambda: forbidden.ask("RepositoryModelUnload", model_name="mlp"))
    assert (code, "may not unload" in text) == (CODE.PERMISSION_DENIED, True)


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        ({"model_name": "nothing"}, CODE.NOT_FOUND, "no model is named 'nothing'"),
        ({"model_version": "9"}, CODE.NOT_FOUND, "has no version '9'"),
        ({"inputs": []}, CODE.INVALID_ARGUMENT, "1 raw_input_contents for 0 inputs"),
        ({"raw_input_contents": [b""]}, CODE.INVALID_ARGUMENT, "'x' has 0 bytes"),
        ({"raw_input_contents": []}, CODE.INVALID_ARGUMENT, "'x' has 0 values"),
        ({"outputs": [{"name": "a"}]}, CODE.INVALID_ARGUMENT, "no output 'a'"),
        (
            {"parameters": {"timeout": {"string_param": "abc"}}},
            CODE.INVALID_ARGUMENT,
            'the timeout of the request is "abc"',
        ),
        (
            {"parameters": {"timeout": {"double_param": float("nan")}}},
            CODE.INVALID_ARGUMENT,
            "the timeout of the request is",
        ),
    ],
)
def test_mistakes_are_told(make: Make, more: dict[str, Any], code: Any, text: str) -> None:
    found, details = refusal(lambda: make().infer(draw(1), **more))
    assert found is code
    assert text in details


def test_what_is_no_call_is_told(make: Make) -> None:
    server = make(limits=CallLimits(message_bytes=2**20))
    ask = server.channel.unary_unary
    for path, said in (
        ("/a.B/C", "nothing is at '/a.B/C'; this server has inference.GRPCInferenceService and"),
        (f"/{INFERENCE}/LogSettings", f"{INFERENCE} of this server has no 'LogSettings'; docs/"),
    ):
        code, text = refusal(partial(ask(path), b"", timeout=9))
        assert (code, said in text) == (CODE.UNIMPLEMENTED, True)
    code, text = refusal(lambda: ask(f"/{INFERENCE}/ModelInfer")(b"\xff\xff", timeout=9))
    assert code is CODE.INVALID_ARGUMENT
    assert text.startswith("not a ModelInferRequest: ")
    code, text = refusal(lambda: server.infer(draw(2**16)))
    assert (code, "at most 1048576 are read" in text) == (CODE.RESOURCE_EXHAUSTED, True)
    bomb = np.zeros((2**18, 8), np.float32)
    code, text = refusal(lambda: server.infer(bomb, compression=grpc.Compression.Gzip))
    assert (code, "decompressed" in text) == (CODE.RESOURCE_EXHAUSTED, True)
    many = server.channel.stream_unary(f"/{INFERENCE}/ServerLive")
    for count in (0, 2):
        code, text = refusal(partial(many, iter([b""] * count), timeout=9))
        assert code is CODE.INVALID_ARGUMENT
        assert text == f"{'more than one' if count else 'no'} message, expected one"
    assert server.ask("ServerLive").live


def test_a_long_request_is_received_whole(make: Make) -> None:
    """20 MB, in pieces; the model takes 64 rows at a time."""
    code, text = refusal(lambda: make().infer(draw(600_000)))
    assert code is CODE.INVALID_ARGUMENT
    assert "600000" in text


def test_a_stream_answers_in_order_and_survives_a_mistake(make: Make) -> None:
    server = make()
    stream = server.channel.stream_stream(
        f"/{INFERENCE}/ModelStreamInfer",
        messages.ModelInferRequest.SerializeToString,
        messages.ModelStreamInferResponse.FromString,
    )
    requests = [request_for(draw(1 + index % 7, index), id=str(index)) for index in range(40)]
    requests[7].model_name = "nothing"
    found = list(stream(iter(requests), timeout=30))
    assert [message.infer_response.id for message in found] == [str(i) for i in range(40)]
    assert "no model is named 'nothing'" in found[7].error_message
    for index, message in enumerate(found):
        if index != 7:
            one = server.infer(draw(1 + index % 7, index))
            np.testing.assert_allclose(logits(message.infer_response), logits(one), rtol=1e-4)
    assert list(stream(iter([]), timeout=9)) == []


def test_a_defect_of_ours_costs_one_call(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    server = make()

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Core, "submit", fails)
        patch.setattr(Core, "statistics", fails)
        for ask in (lambda: server.infer(draw(1)), lambda: server.ask("ModelStatistics")):
            code, text = refusal(ask)
            assert (code, text) == (CODE.INTERNAL, "internal error; the server's log says more")
    assert server.infer(draw(1)).model_name == "mlp"


def test_a_deadline_that_is_over_is_told(make: Make) -> None:
    server = make(bounds=Bounds(delay_s=0.3))
    assert refusal(lambda: server.infer(draw(1), timeout=0.05))[0] is CODE.DEADLINE_EXCEEDED
    assert server.infer(draw(1)).model_name == "mlp"


def test_calls_of_many_clients_at_once_get_their_own_answers(make: Make) -> None:
    server = make()
    call = server.channel.unary_unary(
        f"/{INFERENCE}/ModelInfer",
        messages.ModelInferRequest.SerializeToString,
        messages.ModelInferResponse.FromString,
    )
    inputs = [draw(1 + index % 3, index) for index in range(200)]
    pending = [call.future(request_for(x, id=str(i)), timeout=30) for i, x in enumerate(inputs)]
    for index, (x, future) in enumerate(zip(inputs, pending, strict=True)):
        response = future.result()
        assert response.id == str(index)
        np.testing.assert_allclose(logits(response), logits(server.infer(x)), rtol=1e-4, atol=1e-6)


def test_overload_is_resource_exhausted(make: Make) -> None:
    server = make(bounds=Bounds(rows=8))
    call = server.channel.unary_unary(f"/{INFERENCE}/ModelInfer")
    data = request_for(draw(8)).SerializeToString()
    codes = [future.code() for future in [call.future(data, timeout=30) for _ in range(200)]]
    assert set(codes) <= {CODE.OK, CODE.RESOURCE_EXHAUSTED}
    assert CODE.OK in codes


def test_nothing_is_lost_while_the_server_ends(make: Make) -> None:
    server = make()
    answered, ended = [], threading.Event()

    def ask() -> None:
        while True:
            try:
                answered.append(server.infer(draw(1)).model_name)
            except grpc.RpcError as e:
                error: Any = e
                assert error.code() is CODE.UNAVAILABLE, error
                ended.set()
                return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    server.stop()
    server._thread.join(20)
    server.door.close()
    for thread in threads:
        thread.join(20)
    assert ended.is_set()
    assert answered


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(":method", "GET")], b"405"),
        ([(":method", "POST"), ("content-type", "application/json")], b"415"),
    ],
)
def test_what_is_http_but_no_grpc_gets_a_status(
    make: Make, headers: list[tuple[str, str]], status: bytes
) -> None:
    import hpack

    pairs = [*headers[:1], (":scheme", "http"), (":path", "/"), (":authority", "h"), *headers[1:]]
    sent = f.PREFACE + f.settings({}) + f.frame(f.HEADERS, 5, 1, hpack.Encoder().encode(pairs))
    with socket.create_connection(("127.0.0.1", make().door.port), 10) as wire:
        wire.sendall(sent)
        data, found = b"", b""
        while not found:
            data += wire.recv(4096)
            while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
                size = int.from_bytes(data[:3], "big")
                if data[3] == f.HEADERS:
                    found = dict(hpack.Decoder().decode(data[9 : 9 + size], raw=True))[b":status"]
                data = data[9 + size :]
    assert found == status


def test_a_port_that_is_taken_is_told(make: Make) -> None:
    taken = make().door.port
    with pytest.raises(UsageError, match="is in use\n  fix: choose another one with --grpc-port"):
        Door("127.0.0.1", taken, 1, CallLimits())
