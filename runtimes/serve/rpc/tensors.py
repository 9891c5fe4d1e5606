"""Tensors out of messages: raw bytes or typed values. Strict, because guesses lie."""

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from edgeport.runtimes.errors import InputError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.serve.bytes_tensor import check_count, read
from edgeport.runtimes.serve.requests import (
    NO_PARAMETERS,
    NUMPY,
    InferRequest,
    Parameter,
    Wanted,
)
from edgeport.runtimes.signature import LARGEST_DIMENSION

_CONTENTS: Final[Mapping[str, str]] = {  # datatype -> the field that holds its values
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_MOST_AXES: Final = 32


def read_request(message: Any, deadline: float | None) -> InferRequest:
    """Read a ``ModelInferRequest``.

    Raises:
        InputError: It is not one of this protocol, or its data do not fit their own shapes.
    """
    raw, tensors = message.raw_input_contents, message.inputs
    if raw and len(raw) != len(tensors):
        raise InputError(
            f"{len(raw)} raw_input_contents for {len(tensors)} inputs",
            remedy="send one for each input, in their order, or typed contents in all of them",
        )
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(tensors):
        name = tensor.name
        if name in inputs:
            raise InputError(f"input {name!r} is given twice", remedy="give every input once")
        if tensor.parameters:
            _refuse_shared(name, tensor.parameters)
        shape = _shape(name, tensor.shape)
        inputs[name] = (
            _from_raw(name, tensor, shape, raw[index]) if raw else _from_typed(name, tensor, shape)
        )
    return InferRequest(
        message.model_name,
        inputs,
        message.model_version,
        [_wanted(output) for output in message.outputs] if message.outputs else (),
        message.id,
        _parameters(message.parameters) if message.parameters else NO_PARAMETERS,
        deadline,
    )


def _shape(name: str, sizes: Any) -> tuple[int, ...]:
    shape = tuple(sizes)
    if len(shape) > _MOST_AXES:
        raise InputError(
            f"input {name!r} has {len(shape)} dimensions, expected at most {_MOST_AXES}",
            remedy="send the shape that the model's metadata says",
        )
    for size in shape:
        if not 0 <= size <= LARGEST_DIMENSION:
            raise InputError(
                f"the shape of input {name!r} holds {size}, which is no size",
                remedy="write sizes as integers, the real ones in place of -1",
            )
    return shape


def _from_raw(name: str, tensor: Any, shape: tuple[int, ...], raw: bytes) -> Array:
    if tensor.HasField("contents"):
        raise InputError(
            f"input {name!r} has typed contents, and raw_input_contents are given too",
            remedy="send one of the two",
        )
    dtype = _dtype(name, tensor.datatype)
    if dtype.kind == "O":
        return _reshaped(name, read(name, raw, math.prod(shape)), shape)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"input {name!r} has {len(raw)} bytes, its shape {list(shape)} of {tensor.datatype} "
            f"needs {math.prod(shape) * dtype.itemsize}",
            remedy="send the values little-endian, row after row",
        )
    array = _reshaped(name, np.frombuffer(raw, dtype), shape)
    if dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise InputError(
            f"input {name!r} is BOOL and holds {array.view(np.uint8).max()}",
            remedy="send one byte for each value: 0 or 1",
        )
    return array


def _from_typed(name: str, tensor: Any, shape: tuple[int, ...]) -> Array:
    datatype = tensor.datatype
    dtype = _dtype(name, datatype)
    if datatype not in _CONTENTS:
        raise InputError(
            f"input {name!r} is {datatype}, which has no typed contents",
            remedy="send it in raw_input_contents",
        )
    field = _CONTENTS[datatype]
    for other, values in tensor.contents.ListFields():
        if other.name != field:
            raise InputError(
                f"input {name!r} is {datatype}, and has {len(values)} values in {other.name}",
                remedy=f"put them into {field}",
            )
    values = getattr(tensor.contents, field)
    if len(values) != math.prod(shape):
        raise InputError(
            f"input {name!r} has {len(values)} values, its shape {list(shape)} needs "
            f"{math.prod(shape)}",
            remedy="correct 'shape' or 'contents'",
        )
    if dtype.kind == "O":
        check_count(name, len(values))
    if dtype.kind in "iu" and len(values):
        limits = np.iinfo(dtype)
        lowest, highest = min(values), max(values)
        if not limits.min <= lowest <= highest <= limits.max:
            value = lowest if lowest < limits.min else highest
            raise InputError(
                f"input {name!r} holds {value}, which {datatype} cannot hold",
                remedy="scale or clip the data",
            )
    array = np.empty(len(values), dtype)
    array[:] = values
    return _reshaped(name, array, shape)


def _reshaped(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    try:
        return array.reshape(shape)
    except ValueError as e:  # [0, 2147483647, 2147483647] needs no bytes, and is too large
        raise InputError(
            f"input {name!r} cannot have shape {list(shape)}: {e}", remedy="correct 'shape'"
        ) from e


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    if datatype not in NUMPY:
        raise InputError(
            f"input {name!r} has datatype {datatype!r}, expected one of {', '.join(NUMPY)}",
            remedy="send the datatype that the model's metadata says",
        )
    return NUMPY[datatype]


def _wanted(output: Any) -> Wanted:
    if not output.parameters:
        return Wanted(output.name)
    _refuse_shared(output.name, output.parameters)
    classes = _parameters(output.parameters).get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise InputError(
            f"output {output.name!r}: classification is {classes!r}",
            remedy="say how many classes: an integer, 1 or more",
        )
    return Wanted(output.name, classes)


def _parameters(found: Any) -> dict[str, Parameter]:
    """Plain values; a parameter without one is left out."""
    named = ((key, value, value.WhichOneof("parameter_choice")) for key, value in found.items())
    return {key: getattr(value, field) for key, value, field in named if field}


def _refuse_shared(name: str, parameters: Any) -> None:
    for key in parameters:
        if key.startswith("shared_memory"):
            raise InputError(
                f"{name!r} asks for shared memory ({key}), which this server does not have",
                remedy="send the data in the message",
            )
