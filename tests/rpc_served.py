"""A core and its gRPC port in a thread, and Google's own client, for tests of them."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import uvloop

from edgeport.runtimes.serve.core import Core
from edgeport.runtimes.serve.counters import Board
from edgeport.runtimes.serve.repository import Catalogue, Repository, opener
from edgeport.runtimes.serve.rpc import CallLimits, Door, messages
from edgeport.runtimes.serve.work import Bounds
from edgeport.runtimes.session import Options

Array = np.ndarray[Any, Any]
INFERENCE, HEALTH = "inference.GRPCInferenceService", "grpc.health.v1.Health"
CODE = grpc.StatusCode


class Server:
    """A core and its gRPC port, in a thread."""

    def __init__(
        self, bundle: Path, bounds: Bounds | None, limits: CallLimits | None, *, control: bool
    ) -> None:
        self.door = Door("127.0.0.1", 0, 1, limits or CallLimits())
        self.core: Core
        self._bundle, self._bounds, self._control = bundle, bounds or Bounds(), control
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


def refusal(call: Callable[[], object]) -> tuple[Any, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    return error.code(), error.details()
