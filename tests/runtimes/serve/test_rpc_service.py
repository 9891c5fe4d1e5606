"""What each method of the gRPC port means, and what is none, with Google's own client."""

import socket
import threading
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest
from rpc_served import CODE, INFERENCE, Make, draw, refusal
from served import wait_until

from edgeport.runtimes import UsageError
from edgeport.runtimes.serve.core import Core
from edgeport.runtimes.serve.rpc import CallLimits, Door
from edgeport.runtimes.serve.rpc import frames as f


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


def test_a_defect_of_ours_costs_one_call(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    server = make()

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Core, "submit", fails)
        patch.setattr(Core, "statistics", fails)
        for ask in (lambda: server.infer(draw(1)), lambda: server.ask("ModelStatistics")):
            code, text = refusal(ask)
            assert (code, text) == (CODE.INTERNAL, "internal error; fix: read the server's log")
    assert server.infer(draw(1)).model_name == "mlp"


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
    wait_until(lambda: len(answered) > 4)
    server.stop()
    server._thread.join(20)
    server.door.close()
    for thread in threads:
        thread.join(20)
    assert ended.is_set()


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
