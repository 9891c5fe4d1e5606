"""An inference request and its answer as bytes: JSON, with or without binary tensors behind it.

Strict where a guess could give a wrong answer; names, ranks and sizes are left to the session's
check of inputs.
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np

from edgeport.runtimes.errors import InputError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import Signature, TensorSpec

from . import bytes_tensor
from .json_text import dumps, dumps_all
from .long_json import loads_long
from .requests import (
    DATATYPE_OF,
    DATATYPES,
    NO_PARAMETERS,
    NUMPY,
    InferRequest,
    InferResponse,
    Parameter,
    Wanted,
)
from .values import check_shape, shown, to_array

_SIZE: Final = "binary_data_size"
_MOST_AT_ONCE: Final = 2**16
"""Numbers that are written in one call, which lets no other thread go on meanwhile."""

_NOBODY: Final[frozenset[str]] = frozenset()


class Parsed(NamedTuple):
    """A request, and how its answer is to be written.

    Attributes:
        request: For the core.
        binary: Outputs that are wanted in binary, by name.
        binary_others: Whether outputs that are not named in the request are.
    """

    request: InferRequest
    binary: Mapping[str, bool]
    binary_others: bool


def parse_request(
    body: bytes,
    model: str,
    version: str,
    signature: Signature,
    raw: frozenset[str] = _NOBODY,
    json_length: int | None = None,
) -> Parsed:
    """Read an inference request.

    Args:
        body: All of it.
        model: Whom it is for.
        version: Whom it is for.
        signature: What that model takes.
        raw: Inputs that may be given as BYTES whatever their dtype.
        json_length: How many bytes of the body are JSON, if binary tensors follow; 0 if all of
            it is the one input; ``None`` if all of it is JSON.

    Raises:
        InputError: It is not JSON, not a request, or its data do not fit its own shape and datatype
            or the model's datatype.
    """
    if json_length == 0:
        return _raw_request(body, model, version, signature)
    tail = _Tail(body, json_length)
    value = _object(loads_long(body if json_length is None else body[:json_length]), "the request")
    specs = {spec.name: spec for spec in signature.inputs}
    inputs: dict[str, Array] = {}
    for entry in _objects(value, "inputs"):
        name = entry.get("name")
        if type(name) is not str:
            raise InputError(f"the name of an input is {shown(name)}", remedy="name it by a string")
        if name in inputs:
            raise InputError(f"input {name!r} is given twice", remedy="give every input once")
        inputs[name] = _tensor(name, entry, specs.get(name), name in raw, tail)
    tail.check_end()
    parameters = _parameters(value, "the request")
    binary_others = _flag(parameters, "binary_data_output", "the request")
    wanted, binary = _wanted(value, signature, binary_others)
    request = InferRequest(model, inputs, version, wanted, _id(value), parameters)
    return Parsed(request, binary, binary_others)


def render_response(parsed: Parsed, response: InferResponse) -> tuple[list[bytes], int | None]:
    """Write the answer to a request.

    Returns:
        The body in parts, and the length of its JSON if binary tensors follow it.
    """
    request, binary, others = parsed
    parts = [b""]
    outputs = []
    for name, array in response.outputs.items():
        datatype = DATATYPE_OF[array.dtype]
        head = _output_head(name, datatype, array.shape)
        if binary.get(name, others):
            data = bytes_tensor.write(array) if datatype == "BYTES" else array.tobytes()
            parts.append(data)
            outputs.append(b'%b"parameters":{"binary_data_size":%d}}' % (head, len(data)))
        else:
            outputs.append(b'%b"data":%b}' % (head, _data(array)))
    parts[0] = b'%b%b"outputs":[%b]}' % (
        _answer_head(response.model, response.version),
        b'"id":%b,' % dumps(request.id) if request.id else b"",
        b",".join(outputs),
    )
    return parts, len(parts[0]) if len(parts) > 1 else None


@lru_cache(1024)
def _output_head(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    return b'{"name":%b,"datatype":%b,"shape":%b,' % (dumps(name), dumps(datatype), dumps(shape))


@lru_cache(1024)
def _answer_head(model: str, version: str) -> bytes:
    return b'{"model_name":%b,"model_version":%b,' % (dumps(model), dumps(version))


def _data(array: Array) -> bytes:
    """The values of an output as JSON."""
    flat = array.ravel()
    if flat.size > _MOST_AT_ONCE:
        starts = range(0, flat.size, _MOST_AT_ONCE)
        parts = [_data(flat[start : start + _MOST_AT_ONCE])[1:-1] for start in starts]
        return b"[%b]" % b",".join(parts)
    kind = flat.dtype.kind
    if kind == "O":
        return dumps([value.decode("utf-8") for value in flat.tolist()])
    written = dumps(flat)
    if kind == "f" and b"null" in written:  # what is not finite
        return dumps_all(flat.tolist())
    return written


class _Tail:
    """The binary tensors behind the JSON, one after the other."""

    __slots__ = ("_body", "_length", "_position")

    def __init__(self, body: bytes, json_length: int | None) -> None:
        self._length = len(body)
        self._position = self._length if json_length is None else json_length
        self._body = body
        if self._position > self._length:
            raise InputError(
                f"the JSON is said to have {self._position} bytes, the body has {self._length}",
                remedy="correct Inference-Header-Content-Length",
            )

    def take(self, name: str, size: object) -> memoryview:
        if type(size) is not int or size < 0:
            raise InputError(
                f"the {_SIZE} of input {name!r} is {shown(size)}, expected a number of bytes",
                remedy="send the size of the tensor's bytes",
            )
        start, self._position = self._position, self._position + size
        if self._position > self._length:
            raise InputError(
                f"input {name!r} is said to have {size} bytes of binary data, "
                f"and {self._length - start} are left in the body",
                remedy=f"correct {_SIZE}, or Inference-Header-Content-Length",
            )
        return memoryview(self._body)[start : self._position]

    def check_end(self) -> None:
        if self._position != self._length:
            raise InputError(
                f"{self._length - self._position} bytes of the body belong to no input",
                remedy=f"correct {_SIZE}, or Inference-Header-Content-Length",
            )


def _tensor(
    name: str, entry: Mapping[str, Any], spec: TensorSpec | None, raw: bool, tail: _Tail
) -> Array:
    datatype = entry.get("datatype")
    expected = None if spec is None else DATATYPES[spec.dtype]
    if expected is None or (datatype != expected and not (raw and datatype == "BYTES")):
        known = [expected, *(["BYTES"] if raw else [])] if expected else list(NUMPY)
        if datatype not in known:
            raise InputError(
                f"input {name!r} has datatype {shown(datatype)}, expected {' or '.join(known)}",
                remedy="convert the data, and say so in 'datatype'",
            )
    shape = check_shape(name, entry.get("shape"))
    dtype = NUMPY[str(datatype)]
    parameters = entry.get("parameters")
    if parameters:  # null is sent by clients that dump a model of theirs
        given = _parameters(entry, f"input {name!r}")
        if _SIZE in given:
            if entry.get("data") is not None:
                raise InputError(
                    f"input {name!r} has both 'data' and {_SIZE}", remedy="send one of them"
                )
            return _binary(name, tail.take(name, given[_SIZE]), shape, dtype)
        if dtype.kind == "O" and given.get("content_type") == "base64":
            return bytes_tensor.of_base64(name, to_array(name, entry.get("data"), shape, dtype))
    return to_array(name, entry.get("data"), shape, dtype)


def _binary(name: str, data: memoryview, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    count = math.prod(shape)
    if dtype.kind == "O":
        array = bytes_tensor.read(name, data, count)
    elif len(data) != count * dtype.itemsize:
        raise InputError(
            f"input {name!r} has {len(data)} bytes of binary data, "
            f"its shape {list(shape)} needs {count * dtype.itemsize}",
            remedy="correct 'shape' or the data",
        )
    else:
        array = np.frombuffer(data, dtype)  # of a little-endian machine, as all engines want
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise InputError(
            f"input {name!r} holds a BOOL byte that is neither 0 nor 1",
            remedy="write false as 0 and true as 1",
        )
    try:
        return array.reshape(shape)
    except ValueError as e:
        raise InputError(
            f"input {name!r} cannot have shape {list(shape)}: {e}", remedy="correct 'shape'"
        ) from e


def _raw_request(body: bytes, model: str, version: str, signature: Signature) -> Parsed:
    """All of the body is the one input, and its size tells the one size that is free."""
    specs = signature.inputs
    free = [size for spec in specs for size in spec.shape if isinstance(size, str)]
    if len(specs) != 1 or len(free) > 1:
        raise InputError(
            "an Inference-Header-Content-Length of 0 makes the body the one input, and this model "
            f"takes {signature}",
            remedy="send names and shapes as JSON in front of the data",
        )
    (spec,) = specs
    row = math.prod(size for size in spec.shape if isinstance(size, int))
    dtype = np.dtype(spec.dtype)
    rows, rest = divmod(len(body), max(row * dtype.itemsize, 1))
    if rest:
        raise InputError(
            f"the body has {len(body)} bytes, {spec} needs a multiple of {row * dtype.itemsize}",
            remedy="send whole rows",
        )
    shape = [size if isinstance(size, int) else rows for size in spec.shape]
    inputs = {spec.name: _binary(spec.name, memoryview(body), shape, dtype)}
    return Parsed(InferRequest(model, inputs, version), {}, True)


def _wanted(
    value: Mapping[str, Any], signature: Signature, binary_others: bool
) -> tuple[list[Wanted], dict[str, bool]]:
    wanted: list[Wanted] = []
    binary: dict[str, bool] = {}
    if value.get("outputs") is None:
        return wanted, binary
    known = [spec.name for spec in signature.outputs]
    for entry in _objects(value, "outputs"):
        name = entry.get("name")
        if type(name) is not str:
            raise InputError(
                f"the name of an output is {shown(name)}", remedy="name it by a string"
            )
        if name not in known or name in binary:
            raise InputError(
                f"output {name!r} is asked for twice" if name in known else f"no output {name!r}",
                remedy=f"this model gives {', '.join(map(repr, known))}",
            )
        what = f"output {name!r}"
        given = _parameters(entry, what)
        classes = given.get("classification", 0)
        if type(classes) is not int or classes < 0:
            raise InputError(
                f"the classification of {what} is {shown(classes)}, expected a number of classes",
                remedy='send {"classification": 3}, for example',
            )
        binary[name] = _flag(given, "binary_data", what, binary_others)
        wanted.append(Wanted(name, classes))
    return wanted, binary


def _parameters(entry: Mapping[str, Any], what: str) -> Mapping[str, Parameter]:
    given = entry.get("parameters")
    if given is None:
        return NO_PARAMETERS
    for key in _object(given, f"'parameters' of {what}"):
        if key.startswith("shared_memory_"):
            raise InputError(
                f"{what} asks for shared memory ({key}), which this server does not take",
                remedy="send the numbers as 'data', or as binary tensors",
            )
    return given  # type: ignore[no-any-return]  # JSON: an object


def _flag(given: Mapping[str, Parameter], key: str, what: str, otherwise: bool = False) -> bool:
    value = given.get(key, otherwise)
    if type(value) is not bool:
        raise InputError(
            f"{key} of {what} is {shown(value)}, expected true or false", remedy="send a bool"
        )
    return value


def _object(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(
            f"{what} is {shown(value)}, expected an object", remedy="see GET /v2/models/MODEL"
        )
    return value


def _objects(request: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    entries = request.get(key)
    if not isinstance(entries, list):
        raise InputError(
            f"{key!r} is {shown(entries)}, expected a list" if key in request
            else f"the request has no {key!r}",
            remedy=f'send "{key}": [{{"name": ..., ...}}]',
        )  # fmt: skip  # the two cases side by side
    return [_object(entry, f"{key}[{index}]") for index, entry in enumerate(entries)]


def _id(request: Mapping[str, Any]) -> str:
    given = request.get("id")
    if given is None:
        return ""
    if isinstance(given, str):
        try:
            given.encode()
        except UnicodeEncodeError as e:
            raise InputError(
                f"the id {shown(given)} holds half of a surrogate pair", remedy="send it in UTF-8"
            ) from e
        return given
    raise InputError(f"the id is {shown(given)}, expected a string", remedy="quote it")
