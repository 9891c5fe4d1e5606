"""The two clients of KServe, unmodified."""

import asyncio
from collections.abc import Callable
from functools import partial
from importlib import import_module, metadata
from typing import Any

from scripts.serving.checks import Checks, Target, equal, expect, refused, right
from scripts.serving.triton_calls import datatype


def run(target: Target) -> list[Checks]:
    """Check both; that of gRPC if the server has it."""
    module = import_module("kserve.inference_client")
    types = import_module("kserve.protocol.infer_type")
    import_module("logging").disable("CRITICAL")  # they log what they raise
    version = metadata.version("kserve")
    rest, grpc = Checks(f"kserve REST {version}"), Checks(f"kserve gRPC {version}")
    with asyncio.Runner() as runner:
        config = module.RESTConfig(protocol="v2")
        raw = runner.run(_made(lambda: module.InferenceRESTClient(config)))
        url = f"http://{target.http}"

        def infer(request: Any) -> Any:
            return runner.run(raw.infer(url, request, model_name=request.model_name))

        def ask(name: str, *args: str) -> Any:
            return runner.run(getattr(raw, name)(url, *args))

        _check(rest, ask, infer, types, target)
        runner.run(raw.close())
        if not target.grpc:
            return [rest]
        caller = runner.run(_made(lambda: module.InferenceGRPCClient(target.grpc)))
        _check(
            grpc,
            lambda name, *args: runner.run(getattr(caller, name)(*args)),
            lambda request: runner.run(caller.infer(request)),
            types,
            target,
            mixed=False,
        )
        runner.run(caller.close())
    return [rest, grpc]


async def _made(make: Callable[[], Any]) -> Any:
    """They want a running loop when they are made."""
    return make()


def _check(
    checks: Checks,
    ask: Callable[..., Any],
    infer: Callable[[Any], Any],
    types: Any,
    target: Target,
    *,
    mixed: bool = True,
) -> None:
    """Check one; ``mixed``: whether FP16, which is always binary, may stand beside values."""
    checks.run("is_server_live", lambda: equal(ask("is_server_live"), True, "it"))
    checks.run("is_server_ready", lambda: equal(ask("is_server_ready"), True, "it"))
    ready = "is_model_ready"
    checks.run(ready, lambda: equal(ask(ready, target.mlp.name), True, "it"))
    checks.run(f"{ready}(unknown)", lambda: equal(ask(ready, "nothing"), False, "it"))
    for binary in (True, False):
        words = "binary" if binary else "plain"
        checks.run(f"infer, {words}", partial(_infer, infer, types, target.mlp, binary=binary))
        if binary or mixed:
            name = f"infer, every datatype, {words}"
            checks.run(name, partial(_infer, infer, types, target.every, binary=binary))

    def unknown() -> None:
        request = _request(types, target.mlp.name, target.mlp.case(), binary=True)
        request.model_name = "nothing"
        refused(lambda: infer(request), "nothing")

    checks.run("infer(unknown model)", unknown)


def _request(types: Any, name: str, case: Any, *, binary: bool) -> Any:
    inputs = []
    for key, array in case.inputs.items():
        made = types.InferInput(key, list(array.shape), datatype(array.dtype.name))
        made.set_data_from_numpy(array, binary_data=binary or array.dtype == "float16")
        inputs.append(made)
    outputs = [
        types.RequestedOutput(key, {"binary_data": binary or array.dtype == "float16"})
        for key, array in case.outputs.items()
    ]
    return types.InferRequest(name, inputs, request_id="7", request_outputs=outputs)


def _infer(infer: Callable[[Any], Any], types: Any, model: Any, *, binary: bool) -> None:
    case = model.case(3)
    response = infer(_request(types, model.name, case, binary=binary))
    equal((response.model_name, response.id), (model.name, "7"), "model, id")
    found = {output.name: output for output in response.outputs}
    expect(found.keys() == case.outputs.keys(), f"outputs are {list(found)}")
    right(case, lambda name: found[name].as_numpy())
