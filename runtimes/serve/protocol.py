"""Open Inference Protocol v2: JSON on one side, numpy on the other. No engine, no network.

Strict where a guess could give a wrong answer; names, ranks and sizes are left to the session,
which checks them anyway.
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgeport.runtimes.errors import InputError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import LARGEST_DIMENSION, Signature, TensorSpec

VERSION: Final = "1"
"""A bundle holds one version of a model; the protocol wants it to have a number."""

MAX_DEPTH: Final = 64

DATATYPES: Final[Mapping[str, str]] = {  # numpy's name -> the protocol's
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}
_NUMPY: Final = {datatype: dtype for dtype, datatype in DATATYPES.items()}

_EXTENSIONS: Final = {  # parameter -> what it asks for
    "binary_data_size": "binary tensors",
    "binary_data": "binary tensors",
    "binary_data_output": "binary tensors",
    "shared_memory_region": "shared memory",
    "classification": "classification",
}

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # linear: no backtracking
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client asked for.

    Attributes:
        inputs: By name, as the client named them.
        outputs: Names of the outputs to answer, in order.
        id: To be sent back; ``None`` if the client gave none.
    """

    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    id: str | None = None


def parse_request(body: bytes | bytearray, signature: Signature) -> InferRequest:
    """Read an inference request.

    ``NaN``, ``Infinity`` and ``-Infinity`` are numbers, as in Python's json, because clients
    send them; a number that its datatype cannot hold is refused.

    Raises:
        InputError: It is not JSON, not a request, asks for an extension, or its data do not fit
            its own shape and datatype or the model's datatype.
    """
    request = _object(_load(body), "the request")
    _refuse_extensions(request, "the request")
    expected = {spec.name: spec for spec in signature.inputs}
    inputs: dict[str, Array] = {}
    for entry in _objects(request, "inputs"):
        name = _name(entry, "an input")
        if name in inputs:
            raise InputError(f"input {name!r} is given twice", remedy="give every input once")
        inputs[name] = _tensor(name, entry, expected.get(name))
    return InferRequest(inputs, _requested(request, signature), _id(request))


def render_response(model: str, request: InferRequest, outputs: Mapping[str, Array]) -> bytes:
    """Write the answer to a request: its outputs in its order, data flat in row-major order."""
    answer: dict[str, Any] = {"model_name": model, "model_version": VERSION}
    if request.id is not None:
        answer["id"] = request.id
    answer["outputs"] = [
        {
            "name": name,
            "datatype": DATATYPES[outputs[name].dtype.name],
            "shape": list(outputs[name].shape),
            "data": outputs[name].ravel().tolist(),
        }
        for name in request.outputs
    ]
    return dumps(answer)


def model_metadata(model: str, platform: str, signature: Signature) -> dict[str, Any]:
    """Describe a model; a free dimension is -1."""
    return {
        "name": model,
        "versions": [VERSION],
        "platform": platform,
        "inputs": [_metadata(spec) for spec in signature.inputs],
        "outputs": [_metadata(spec) for spec in signature.outputs],
    }


def dumps(value: object) -> bytes:
    """Write compact JSON, in ASCII."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _metadata(spec: TensorSpec) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": shape}


def _load(body: bytes | bytearray) -> object:
    _check_depth(body)
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_unique)
    except ValueError as e:
        raise InputError(
            f"the body is not valid JSON: {e}",
            remedy="send an Open Inference Protocol v2 request in UTF-8",
        ) from e


def _check_depth(body: bytes | bytearray) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", body).translate(None, _NO_BRACKETS)
    if max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise InputError(
            f"the body is nested deeper than {MAX_DEPTH} levels", remedy="send flat data"
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return found


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(
            f"{what} is {_shown(value)}, expected an object", remedy="see GET /v2/models/MODEL"
        )
    return value


def _objects(request: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    entries = request.get(key)
    if not isinstance(entries, list):
        raise InputError(
            f"{key!r} is {_shown(entries)}, expected a list" if key in request
            else f"the request has no {key!r}",
            remedy=f'send "{key}": [{{"name": ..., ...}}]',
        )  # fmt: skip  # the two cases side by side
    return [_object(entry, f"{key}[{index}]") for index, entry in enumerate(entries)]


def _name(entry: Mapping[str, Any], what: str) -> str:
    name = entry.get("name")
    if not isinstance(name, str):
        raise InputError(f"the name of {what} is {_shown(name)}", remedy="name it by a string")
    _refuse_extensions(entry, f"{what.removeprefix('an ')} {name!r}")
    return name


def _id(request: Mapping[str, Any]) -> str | None:
    given = request.get("id")
    if given is None or isinstance(given, str):
        return given
    raise InputError(f"the id is {_shown(given)}, expected a string", remedy="quote it")


def _refuse_extensions(entry: Mapping[str, Any], what: str) -> None:
    parameters = entry.get("parameters")  # null is sent by clients that dump a model of theirs
    if parameters is None:
        return
    for key, value in _object(parameters, f"'parameters' of {what}").items():
        if key in _EXTENSIONS and value is not False:
            raise InputError(
                f"{what} asks for {_EXTENSIONS[key]} ({key}), and this server takes JSON only",
                remedy='send the numbers as "data", without that parameter',
            )


def _requested(request: Mapping[str, Any], signature: Signature) -> tuple[str, ...]:
    known = tuple(spec.name for spec in signature.outputs)
    if request.get("outputs") is None:
        return known
    names = [_name(entry, "an output") for entry in _objects(request, "outputs")]
    for name in names:
        if name not in known or names.count(name) > 1:
            raise InputError(
                f"output {name!r} is asked for twice" if name in known else f"no output {name!r}",
                remedy=f"this model gives {', '.join(map(repr, known))}",
            )
    return tuple(names) or known


def _tensor(name: str, entry: Mapping[str, Any], spec: TensorSpec | None) -> Array:
    datatype = entry.get("datatype")
    wanted = [DATATYPES[spec.dtype]] if spec else list(_NUMPY)
    if datatype not in wanted:
        raise InputError(
            f"input {name!r} has datatype {_shown(datatype)}, expected {' or '.join(wanted)}",
            remedy="convert the data, and say so in 'datatype'",
        )
    shape = _shape(name, entry.get("shape"))
    flat = _flat(name, entry.get("data"), shape)
    if len(flat) != math.prod(shape):
        raise InputError(
            f"input {name!r} has {len(flat)} values, its shape {shape} needs {math.prod(shape)}",
            remedy="correct 'shape' or 'data'",
        )
    array = _array(name, flat, _NUMPY[datatype])
    try:
        return array.reshape(shape)
    except ValueError as e:
        raise InputError(
            f"input {name!r} cannot have shape {shape}: {e}", remedy="correct 'shape'"
        ) from e


def _shape(name: str, shape: object) -> list[int]:
    if not isinstance(shape, list) or len(shape) > 32:  # what numpy 1 can hold
        raise InputError(
            f"the shape of input {name!r} is {_shown(shape)}, expected at most 32 sizes",
            remedy='send "shape": [1, 4], for example',
        )
    for size in shape:
        if type(size) is not int or not 0 <= size <= LARGEST_DIMENSION:
            raise InputError(
                f"the shape of input {name!r} holds {_shown(size)}, which is no size",
                remedy="write sizes as integers, the real ones in place of -1",
            )
    return shape


def _flat(name: str, data: object, shape: Sequence[int]) -> list[Any]:
    if not isinstance(data, list):
        raise InputError(
            f"the data of input {name!r} is {_shown(data)}, expected a list",
            remedy="send the values in row-major order, flat or nested",
        )
    if not data or not isinstance(data[0], list):
        return data
    level = [data]
    for axis, size in enumerate(shape):
        if any(type(row) is not list or len(row) != size for row in level):
            raise InputError(
                f"the data of input {name!r} is nested, but not into its shape {list(shape)}: "
                f"a row of axis {axis} has not {size} entries",
                remedy="correct 'shape' or 'data', or send the values flat",
            )
        level = list(itertools.chain.from_iterable(level))
    return level


def _array(name: str, flat: list[Any], dtype: str) -> Array:
    kind = np.dtype(dtype).kind
    if kind == "b":
        _check_types(name, flat, {bool}, "true or false")
        return np.array(flat, dtype)
    if kind in "iu":
        _check_types(name, flat, {int}, "an integer")
        limits = np.iinfo(dtype)
        if flat and not limits.min <= min(flat) <= max(flat) <= limits.max:
            raise _out_of_range(name, min(flat) if min(flat) < limits.min else max(flat), dtype)
        return np.array(flat, dtype)
    _check_types(name, flat, {int, float}, "a number")
    try:
        wide = np.array(flat, np.float64)
    except OverflowError as e:  # an integer of more than 308 digits
        raise _out_of_range(name, max(flat, key=abs), dtype) from e
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    if dtype != "float64" and (lost := np.isinf(narrow) & np.isfinite(wide)).any():
        raise _out_of_range(name, flat[int(lost.argmax())], dtype)
    return narrow


def _check_types(name: str, flat: list[Any], allowed: set[type], expected: str) -> None:
    if not set(map(type, flat)) <= allowed:
        index = next(i for i, value in enumerate(flat) if type(value) not in allowed)
        raise InputError(
            f"value {index} of input {name!r} is {_shown(flat[index])}, expected {expected}",
            remedy="send values of the datatype, flat or nested as the shape says",
        )


def _out_of_range(name: str, value: float, dtype: str) -> InputError:
    return InputError(
        f"input {name!r} holds {_shown(value)}, which {DATATYPES[dtype]} cannot hold",
        remedy="scale or clip the data",
    )


def _shown(value: object) -> str:
    """Name a JSON value in an error: what it is if it is large, itself otherwise."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
