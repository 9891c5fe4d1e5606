"""Requests as bytes, and what is read out of their answers."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np

from edgeport.runtimes.inputs import Array
from scripts.serving.reference import Case, Reference, wrong
from scripts.serving.triton_calls import datatype

Form = Literal["json", "binary", "grpc", "litserve"]

_SIZE: Final = b"inference-header-content-length:"


@dataclass(slots=True)
class Requests:
    """Some requests, as they are sent, and the judge of their answers.

    An answer whose bytes were seen before for the same request has been judged already; batches
    sum in another order, so there may be a few that are right.

    Attributes:
        form: How tensors travel.
        sent: The bytes of each.
    """

    form: Form
    sent: Sequence[bytes]
    cases: Sequence[Case]
    seen: set[tuple[int, bytes]] = field(default_factory=set)

    def is_right(self, index: int, head: bytes, body: bytes) -> bool:
        """Whether this is the answer to request ``index``."""
        if (index, body) in self.seen:
            return True
        case = self.cases[index]
        try:
            right = wrong(_READERS[self.form](head, body, case), case) is None
        except (KeyError, ValueError, TypeError):
            right = False
        if right:
            self.seen.add((index, body))
        return right


def requests(form: Form, reference: Reference, count: int = 64) -> Requests:
    """Draw requests of one row."""
    cases = [reference.case() for _ in range(count)]
    write = _WRITERS[form]
    return Requests(form, [write(reference.name, case) for case in cases], cases)


def post(path: str, body: bytes, *headers: str) -> bytes:
    """A request of HTTP/1.1."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _write_json(model: str, case: Case) -> bytes:
    inputs = [
        {**_named(name, array), "data": array.ravel().tolist()}
        for name, array in case.inputs.items()
    ]
    body = json.dumps({"inputs": inputs}).encode()
    return post(f"/v2/models/{model}/infer", body, "Content-Type: application/json")


def _write_binary(model: str, case: Case) -> bytes:
    inputs = [
        {**_named(name, array), "parameters": {"binary_data_size": array.nbytes}}
        for name, array in case.inputs.items()
    ]
    request = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    head = json.dumps(request).encode()
    body = b"".join([head, *(array.tobytes() for array in case.inputs.values())])
    size = f"Inference-Header-Content-Length: {len(head)}"
    return post(f"/v2/models/{model}/infer", body, "Content-Type: application/octet-stream", size)


def _write_grpc(model: str, case: Case) -> bytes:
    from edgeport.runtimes.serve.rpc import messages

    inputs = [_named(name, array) for name, array in case.inputs.items()]
    raw = [array.tobytes() for array in case.inputs.values()]
    request = messages.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=raw)
    sent: bytes = request.SerializeToString()
    return sent


def _write_litserve(model: str, case: Case) -> bytes:
    body = json.dumps({name: array.tolist() for name, array in case.inputs.items()}).encode()
    return post("/predict", body, "Content-Type: application/json")


def _named(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "datatype": datatype(array.dtype.name), "shape": list(array.shape)}


def _read_json(head: bytes, body: bytes, case: Case) -> Mapping[str, Array]:
    found = {output["name"]: output for output in json.loads(body)["outputs"]}
    return {
        name: np.array(found[name]["data"], array.dtype).reshape(found[name]["shape"])
        for name, array in case.outputs.items()
    }


def _read_binary(head: bytes, body: bytes, case: Case) -> Mapping[str, Array]:
    line = next(line for line in head.lower().split(b"\r\n") if line.startswith(_SIZE))
    place = int(line[len(_SIZE) :])
    arrays = {}
    for output in json.loads(body[:place])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        dtype = case.outputs[output["name"]].dtype
        data = np.frombuffer(body[place : place + size], dtype)
        arrays[output["name"]] = data.reshape(output["shape"])
        place += size
    return arrays


def _read_grpc(head: bytes, body: bytes, case: Case) -> Mapping[str, Array]:
    from google.protobuf.message import DecodeError

    from edgeport.runtimes.serve.rpc import messages

    try:
        response = messages.ModelInferResponse.FromString(body)
    except DecodeError as e:
        raise ValueError(str(e)) from e
    return {
        output.name: np.frombuffer(raw, case.outputs[output.name].dtype).reshape(output.shape)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _read_litserve(head: bytes, body: bytes, case: Case) -> Mapping[str, Array]:
    found = json.loads(body)
    return {name: np.array(found[name], array.dtype) for name, array in case.outputs.items()}


_WRITERS: Final[Mapping[Form, Callable[[str, Case], bytes]]] = {
    "json": _write_json,
    "binary": _write_binary,
    "grpc": _write_grpc,
    "litserve": _write_litserve,
}
_READERS: Final[Mapping[Form, Callable[[bytes, bytes, Case], Mapping[str, Array]]]] = {
    "json": _read_json,
    "binary": _read_binary,
    "grpc": _read_grpc,
    "litserve": _read_litserve,
}
