"""The four clients of tritonclient, unmodified, over every call that a server can answer."""

import asyncio
import queue
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Any, Final

from scripts.serving.checks import Checks, Target, equal, expect, right
from scripts.serving.triton_calls import Client, check_infer, check_server

_HTTP_FORMS: Final = ({"binary_data": True}, {"binary_data": False})
_HTTP_COMPRESSIONS: Final = (
    {"request_compression_algorithm": "gzip"},
    {"request_compression_algorithm": "deflate"},
    {"response_compression_algorithm": "gzip"},
    {"response_compression_algorithm": "deflate"},
)
_GRPC_COMPRESSIONS: Final = (
    {"compression_algorithm": "gzip"},
    {"compression_algorithm": "deflate"},
)
_PLAIN: Final = (
    "is_server_live",
    "is_server_ready",
    "is_model_ready",
    "load_model",
    "unload_model",
)


def run(target: Target) -> list[Checks]:
    """Check every client; those of gRPC if the server has it."""
    done = [_http(target), _http_aio(target)]
    if target.grpc:
        done += [_grpc(target), _grpc_aio(target)]
    return done


def _checks(name: str) -> Checks:
    return Checks(f"tritonclient.{name} {metadata.version('tritonclient')}")


def _http(target: Target) -> Checks:
    checks, module = _checks("http"), import_module("tritonclient.http")
    with module.InferenceServerClient(target.http, concurrency=4) as raw:
        client = Client(
            lambda name, *args: getattr(raw, name)(*args),
            raw.infer,
            module,
            _HTTP_FORMS,
            _HTTP_COMPRESSIONS,
        )
        check_server(checks, client, target)
        check_infer(checks, client, target)
        case = target.mlp.case(2)
        inputs = client.tensors(case.inputs)

        def together() -> None:
            pending = [raw.async_infer(target.mlp.name, inputs) for _ in range(20)]
            for each in pending:
                right(case, each.get_result().as_numpy)

        def by_hand() -> None:
            body, length = raw.generate_request_body(inputs)
            headers = {"Inference-Header-Content-Length": length}
            response = raw._post(f"v2/models/{target.mlp.name}/infer", body, headers, None)
            equal(response.status_code, 200, "status")
            size = int(response.get("Inference-Header-Content-Length"))
            result = raw.parse_response_body(response.read(), header_length=size)
            right(case, result.as_numpy)

        checks.run("20 async_infer at once", together)
        checks.run("generate_request_body, parse_response_body", by_hand)
    return checks


def _http_aio(target: Target) -> Checks:
    checks, module = _checks("http.aio"), import_module("tritonclient.http.aio")
    _asynchronous(checks, module, target.http, target, {}, _HTTP_FORMS, _HTTP_COMPRESSIONS)
    return checks


def _grpc(target: Target) -> Checks:
    checks, module = _checks("grpc"), import_module("tritonclient.grpc")
    with module.InferenceServerClient(target.grpc) as raw:

        def call(name: str, *args: str) -> Any:
            return getattr(raw, name)(*args, **_as_json(name))

        client = Client(call, raw.infer, module, ({},), _GRPC_COMPRESSIONS)
        check_server(checks, client, target)
        check_infer(checks, client, target)
        checks.run("20 async_infer at once", lambda: _callbacks(raw, client, target))
        checks.run("start_stream, 20 async_stream_infer", lambda: _stream(raw, client, target))
        checks.run("async_stream_infer(unknown model)", lambda: _bad_stream(raw, client, target))
        inputs = client.tensors(target.mlp.case().inputs)
        checks.run(
            "infer(client_timeout)", lambda: raw.infer(target.mlp.name, inputs, client_timeout=30.0)
        )
    return checks


def _as_json(name: str) -> Mapping[str, bool]:
    return {} if name in _PLAIN else {"as_json": True}


def _callbacks(raw: Any, client: Client, target: Target) -> None:
    case, done = target.mlp.case(2), queue.Queue[Any]()
    inputs = client.tensors(case.inputs)
    for _ in range(20):
        raw.async_infer(
            target.mlp.name, inputs, callback=lambda result, error: done.put((result, error))
        )
    for _ in range(20):
        result, error = done.get(timeout=10)
        expect(error is None, f"error: {error}")
        right(case, result.as_numpy)


def _stream(raw: Any, client: Client, target: Target) -> None:
    cases = [target.mlp.case(rows) for rows in range(1, 21)]
    done = queue.Queue[Any]()
    raw.start_stream(callback=lambda result, error: done.put((result, error)))
    try:
        for index, case in enumerate(cases):
            inputs = client.tensors(case.inputs)
            raw.async_stream_infer(target.mlp.name, inputs, request_id=str(index))
        for _ in cases:
            result, error = done.get(timeout=10)
            expect(error is None, f"error: {error}")
            right(cases[int(result.get_response().id)], result.as_numpy)
    finally:
        raw.stop_stream()


def _bad_stream(raw: Any, client: Client, target: Target) -> None:
    """An error of one request does not end the stream."""
    case, done = target.mlp.case(), queue.Queue[Any]()
    raw.start_stream(callback=lambda result, error: done.put((result, error)))
    try:
        raw.async_stream_infer("nothing", client.tensors(case.inputs))
        _, error = done.get(timeout=10)
        expect("nothing" in str(error), f"error: {error}")
        raw.async_stream_infer(target.mlp.name, client.tensors(case.inputs))
        result, error = done.get(timeout=10)
        expect(error is None, f"error: {error}")
        right(case, result.as_numpy)
    finally:
        raw.stop_stream()


def _grpc_aio(target: Target) -> Checks:
    checks, module = _checks("grpc.aio"), import_module("tritonclient.grpc.aio")
    as_json = {"as_json": True}
    _asynchronous(checks, module, str(target.grpc), target, as_json, ({},), _GRPC_COMPRESSIONS)
    return checks


def _asynchronous(
    checks: Checks,
    module: Any,
    url: str,
    target: Target,
    as_json: Mapping[str, bool],
    forms: Any,
    compressions: Any,
) -> None:
    with asyncio.Runner() as runner:

        async def make() -> Any:
            return module.InferenceServerClient(url)

        raw = runner.run(make())

        def call(name: str, *args: str) -> Any:
            named = {} if name in _PLAIN else as_json
            return runner.run(getattr(raw, name)(*args, **named))

        def infer(*args: Any, **named: Any) -> Any:
            return runner.run(raw.infer(*args, **named))

        client = Client(call, infer, module, forms, compressions)
        check_server(checks, client, target)
        check_infer(checks, client, target)
        case = target.mlp.case(2)
        inputs = client.tensors(case.inputs)

        async def together() -> None:
            tasks = (raw.infer(target.mlp.name, inputs) for _ in range(20))
            for result in await asyncio.gather(*tasks):
                right(case, result.as_numpy)

        async def stream() -> None:
            async def requests() -> Any:
                for index in range(20):
                    yield {
                        "model_name": target.mlp.name,
                        "inputs": inputs,
                        "request_id": str(index),
                    }

            count = 0
            async for result, error in raw.stream_infer(requests()):
                expect(error is None, f"error: {error}")
                right(case, result.as_numpy)
                count += 1
            equal(count, 20, "answers")

        checks.run("20 infer at once", lambda: runner.run(together()))
        if hasattr(raw, "stream_infer"):
            checks.run("stream_infer, 20 requests", lambda: runner.run(stream()))
        runner.run(raw.close())
