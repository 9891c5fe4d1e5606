"""Calls that all of tritonclient's four clients have, as checks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from edgeport.runtimes.inputs import Array
from scripts.serving.checks import Checks, Target, equal, expect, refused, right

_DATATYPES: Final = {"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64"}


@dataclass(frozen=True, slots=True)
class Client:
    """One of the clients.

    Attributes:
        call: Name of a method and its arguments -> what it returns, as plain values.
        infer: As the client's method.
        module: Where its ``InferInput`` is.
        forms: Whether tensors go there and come back as binary; gRPC has one form alone.
        compressions: Arguments of ``infer`` that ask for compression.
    """

    call: Callable[..., Any]
    infer: Callable[..., Any]
    module: Any
    forms: Sequence[Mapping[str, bool]]
    compressions: Sequence[Mapping[str, str]]

    def tensors(self, inputs: Mapping[str, Array], **form: bool) -> list[Any]:
        """Inputs as the client wants them; FP16 cannot but be binary."""
        made = []
        for name, array in inputs.items():
            tensor = self.module.InferInput(name, list(array.shape), datatype(array.dtype.name))
            tensor.set_data_from_numpy(array, **({} if array.dtype == "float16" else form))
            made.append(tensor)
        return made

    def asked(self, name: str, **more: Any) -> list[Any]:
        """One output as the client asks for it."""
        return [self.module.InferRequestedOutput(name, **more)]


def datatype(dtype: str) -> str:
    """The protocol's name of a dtype."""
    return _DATATYPES.get(dtype, dtype.upper())


def check_server(checks: Checks, client: Client, target: Target) -> None:
    """Health, metadata, configuration, statistics, repository."""
    call, mlp = client.call, target.mlp.name

    def ready(expected: bool, *args: str) -> Callable[[], None]:
        return lambda: equal(call("is_model_ready", *args), expected, "it")

    checks.run("is_server_live", lambda: equal(call("is_server_live"), True, "it"))
    checks.run("is_server_ready", lambda: equal(call("is_server_ready"), True, "it"))
    checks.run("is_model_ready", ready(True, mlp))
    checks.run("is_model_ready(version)", ready(True, mlp, "1"))
    checks.run("is_model_ready(unknown)", ready(False, "nothing"))
    checks.run("is_model_ready(unknown version)", ready(False, mlp, "99"))
    for name, check in {
        "get_server_metadata": _server_metadata,
        "get_model_metadata": _model_metadata,
        "get_model_config": _model_config,
        "get_model_repository_index": _index,
        "get_inference_statistics": _statistics,
    }.items():
        checks.run(name, partial(check, call, target))
    for name in ("get_model_metadata", "get_model_config", "get_inference_statistics"):
        checks.run(f"{name}(unknown)", partial(refused, partial(call, name, "nothing"), "nothing"))
    if target.control:
        checks.run("unload_model, load_model", lambda: _control(call, mlp))


def _server_metadata(call: Callable[..., Any], target: Target) -> None:
    found = call("get_server_metadata")
    expect(found["name"] and found["version"], "no name or version")
    for extension in ("classification", "statistics", "model_configuration"):
        expect(extension in found["extensions"], f"no extension {extension!r}")


def _model_metadata(call: Callable[..., Any], target: Target) -> None:
    for version in ((), ("1",)):
        found = call("get_model_metadata", target.every.name, *version)
        equal((found["name"], found["versions"]), (target.every.name, ["1"]), "name, versions")
        for entries, arrays in (
            (found["inputs"], target.every.case(3).inputs),
            (found["outputs"], target.every.case(3).outputs),
        ):
            equal([entry["name"] for entry in entries], list(arrays), "names")
            for entry, array in zip(entries, arrays.values(), strict=True):
                equal(entry["datatype"], datatype(array.dtype.name), entry["name"])
                equal([int(size) for size in entry["shape"]], [-1, 3], f"shape of {entry['name']}")


def _model_config(call: Callable[..., Any], target: Target) -> None:
    for version in ((), ("1",)):
        found = call("get_model_config", target.mlp.name, *version)
        found = found.get("config", found)
        equal(found["name"], target.mlp.name, "name")
        expect(int(found.get("max_batch_size", 0)) >= 0, "max_batch_size is negative")
        equal(found["input"][0]["data_type"], "TYPE_FP32", "data_type")
        equal(int(found["input"][0]["dims"][-1]), 64, "the last of dims")


def _index(call: Callable[..., Any], target: Target) -> None:
    found = call("get_model_repository_index")
    entries = {entry["name"]: entry for entry in _models(found)}
    for name in (target.every.name, target.mlp.name):
        equal((entries[name]["state"], entries[name]["version"]), ("READY", "1"), name)


def _models(index: Any) -> Any:
    return index["models"] if isinstance(index, dict) else index


def _statistics(call: Callable[..., Any], target: Target) -> None:
    for args in ((), (target.mlp.name,), (target.mlp.name, "1")):
        entries = {
            entry["name"]: entry for entry in call("get_inference_statistics", *args)["model_stats"]
        }
        expect(target.mlp.name in entries, f"{target.mlp.name!r} is missing")
        equal(len(entries), 1 if args else 2, "models")
        found = entries[target.mlp.name]["inference_stats"]
        for key in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"):
            expect(key in found, f"no {key}")


def _control(call: Callable[..., Any], name: str) -> None:
    call("unload_model", name)
    equal(call("is_model_ready", name), False, "ready after unload")
    states = {
        each["name"]: each.get("state") for each in _models(call("get_model_repository_index"))
    }
    expect(states.get(name) != "READY", "still READY in the index")
    call("load_model", name)
    equal(call("is_model_ready", name), True, "ready after load")
    refused(lambda: call("load_model", "nothing"), "nothing")


def check_infer(checks: Checks, client: Client, target: Target) -> None:
    """Every datatype in every form, every option, and what must be refused."""
    for name in target.every.case().inputs:
        for there in client.forms:
            for back in client.forms:
                if name == "float16" and not (all(there.values()) and all(back.values())):
                    continue  # the protocol has no FP16 in JSON
                words = [_form(form) for form in (there, back) if form]
                call = " ".join(["infer", datatype(name), *(" to ".join(words).split())])
                checks.run(call, partial(_one, client, target, name, there, back))
    for call, action in {**_options(client, target), **_refusals(client, target)}.items():
        checks.run(call, action)


def _form(form: Mapping[str, bool]) -> str:
    return "binary" if form["binary_data"] else "JSON"


def _one(
    client: Client,
    target: Target,
    name: str,
    there: Mapping[str, bool],
    back: Mapping[str, bool],
) -> None:
    case = target.every.case(3)
    others = client.tensors({n: a for n, a in case.inputs.items() if n != name})
    inputs = [*others, *client.tensors({name: case.inputs[name]}, **there)]
    result = client.infer(target.every.name, inputs, outputs=client.asked(f"{name}_out", **back))
    right(case, result.as_numpy, [f"{name}_out"])


def _options(client: Client, target: Target) -> dict[str, Callable[[], object]]:
    name, case = target.mlp.name, target.mlp.case(5)
    inputs = client.tensors(case.inputs)

    def plain(**named: Any) -> Any:
        result = client.infer(name, inputs, **named)
        right(case, result.as_numpy)
        return result

    def identified() -> None:
        text = 'a "quoted" id, ünïcode'
        response = plain(request_id=text).get_response()
        found = response.get("id") if isinstance(response, dict) else response.id
        equal(found, text, "id")

    def classified() -> None:
        (output, scores) = next(iter(case.outputs.items()))
        result = client.infer(name, inputs, outputs=client.asked(output, class_count=3))
        found = result.as_numpy(output)
        equal(found.shape, (5, 3), "shape")
        for row, values in zip(found, scores, strict=True):
            pairs = [entry.decode().split(":") for entry in row]
            best = np.argsort(-values, kind="stable")[:3]
            equal([int(pair[1]) for pair in pairs], best.tolist(), "order")
            near = np.allclose([float(pair[0]) for pair in pairs], values[best], atol=1e-5)
            expect(near, f"values are {pairs}, expected {values[best]}")

    def sequence() -> None:
        try:
            plain(sequence_id=7, sequence_start=True)
        except Exception as e:  # a model without state may refuse to be part of a sequence
            expect("sequence" in str(e), f"refused without 'sequence': {e}")

    return {
        "infer": plain,
        "infer(model_version)": lambda: plain(model_version="1"),
        "infer(request_id)": identified,
        "infer(class_count)": classified,
        "infer(priority, timeout)": lambda: plain(priority=1, timeout=60_000_000),
        "infer(headers)": lambda: plain(headers={"x-trace": "1"}),
        "infer(parameters)": lambda: plain(parameters={"note": "x", "count": 1, "flag": True}),
        "infer(sequence_id)": sequence,
        "infer, 100 times": lambda: [plain() for _ in range(100)],
        **{
            f"infer({', '.join(f'{key}={value}' for key, value in each.items())})": partial(
                plain, **each
            )
            for each in client.compressions
        },
    }


def _refusals(client: Client, target: Target) -> dict[str, Callable[[], object]]:
    name, case = target.mlp.name, target.mlp.case(5)
    inputs = client.tensors(case.inputs)
    (x,) = case.inputs.values()

    def infer(arrays: Mapping[str, Array]) -> Callable[[], object]:
        return lambda: client.infer(name, client.tensors(arrays))

    return {
        "infer(unknown model)": lambda: refused(lambda: client.infer("nothing", inputs), "nothing"),
        "infer(unknown version)": lambda: refused(
            lambda: client.infer(name, inputs, model_version="99"), "99"
        ),
        "infer(wrong size)": lambda: refused(infer({"x": x[:, :-1]}), "63", "64"),
        "infer(wrong rank)": lambda: refused(infer({"x": x[0]}), "x"),
        "infer(wrong name)": lambda: refused(infer({"wrong_name": x}), "wrong_name"),
        "infer(an input too many)": lambda: refused(infer({"x": x, "more": x}), "more"),
        "infer(wrong datatype)": lambda: refused(infer({"x": x.astype("float64")}), "x", "32"),
        "infer(unknown output)": lambda: refused(
            lambda: client.infer(name, inputs, outputs=client.asked("no_such")), "no_such"
        ),
    }
