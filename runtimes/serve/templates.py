"""Requests of one model that look like an earlier one but for their numbers: nearly all of them.

A client sends the same JSON again and again around other data. What surrounds the data was read
with all care once; if the same bytes come again, only the data are read. Bytes that are the same
mean the same: in JSON the place of a value decides nothing but what stands before it.
"""

import re
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import Signature

from .json_text import loads
from .reading import LARGE_BYTES
from .requests import InferRequest
from .values import narrowed, to_array
from .wire import Parsed, parse_request

_MOST: Final = 64
_MOST_AROUND: Final = 4096
_NUMBERS: Final = re.compile(rb"\[[0-9+\-.eE,\[\] \n\r\t]*")
_REALS: Final = b"0123456789+-.eE, \n\r\t"
_INTEGERS: Final = b"0123456789-, \n\r\t"
_PROBE: Final = b'["\\u0000"]'


class _Json(NamedTuple):
    """What surrounded the data of the only input, and what it meant."""

    behind: bytes
    parsed: Parsed
    name: str
    shape: list[int]
    length: int
    dtype: np.dtype[Any]
    allowed: bytes


class _Binary(NamedTuple):
    """The JSON in front of a binary tensor, and what it meant."""

    parsed: Parsed
    name: str
    shape: tuple[int, ...]
    size: int
    dtype: np.dtype[Any]


class Reader:
    """Reads the requests for one version of a model, and remembers what they looked like.

    Args:
        model: Its name.
        signature: What it takes.
        raw: Inputs that may be given as BYTES whatever their dtype.
    """

    def __init__(self, model: str, signature: Signature, raw: frozenset[str]) -> None:
        self._model = model
        self._signature = signature
        self._raw = raw
        self._json: dict[bytes, _Json] = {}
        self._binary: dict[bytes, _Binary] = {}

    def read(self, body: bytes, version: str, json_length: int | None) -> Parsed:
        """Read a request; as ``parse_request``, which see for what it raises."""
        is_long = json_length is None and len(body) > LARGE_BYTES  # all the time goes to its data
        if is_long:
            found = None
        elif json_length is None:
            found = self._like_earlier_json(body, version)
        else:
            found = self._like_earlier_binary(body, version, json_length)
        if found is not None:
            return found
        parsed = parse_request(body, self._model, version, self._signature, self._raw, json_length)
        inputs = parsed.request.inputs
        if len(inputs) == 1 and not parsed.request.id and not is_long:
            ((name, array),) = inputs.items()
            meant = parsed._replace(request=parsed.request._replace(inputs={}))  # keeps no data
            if json_length is None:
                self._remember_json(body, meant, name, array)
            elif json_length:
                self._remember_binary(body, meant, name, array, json_length)
        return parsed

    # ---- JSON

    def _like_earlier_json(self, body: bytes, version: str) -> Parsed | None:
        start = body.find(b"[", body.find(b'"data"'))
        known = self._json.get(body[:start]) if 0 <= start <= _MOST_AROUND else None
        if known is None or not body.endswith(known.behind):
            return None
        data = body[start : len(body) - len(known.behind)]
        if data[-1:] != b"]" or data[1:-1].translate(None, known.allowed):
            return None  # nested, or not numbers only: the usual way knows what is wrong
        try:
            values = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
        if len(values) != known.length:
            return None
        dtype = known.dtype
        if dtype.kind == "f":
            array = narrowed(known.name, values, dtype).reshape(known.shape)
        else:
            array = to_array(known.name, values, known.shape, dtype)
        return _again(known.parsed, known.name, array, version)

    def _remember_json(self, body: bytes, parsed: Parsed, name: str, array: Array) -> None:
        start = body.find(b"[", body.find(b'"data"'))
        match = _NUMBERS.match(body, start) if 0 <= start <= _MOST_AROUND else None
        if match is None or array.dtype.kind not in "fiu" or array.size == 0:
            return
        stop = match.end()
        while body[stop - 1 : stop] != b"]":
            stop -= 1
        before, behind = body[:start], body[stop:]
        if len(behind) > _MOST_AROUND or not self._is_place(before, behind, name):
            return
        if len(self._json) >= _MOST:
            self._json.clear()
        allowed = _REALS if array.dtype.kind == "f" else _INTEGERS
        self._json[before] = _Json(
            behind, parsed, name, list(array.shape), array.size, array.dtype, allowed
        )

    @staticmethod
    def _is_place(before: bytes, behind: bytes, name: str) -> bool:
        """Whether what stands between is the data of the only input: put something else there."""
        try:
            (entry,) = loads(before + _PROBE + behind)["inputs"]
        except (ValueError, TypeError, KeyError):
            return False
        return bool(entry["data"] == ["\0"] and entry["name"] == name)

    # ---- binary

    def _like_earlier_binary(self, body: bytes, version: str, json_length: int) -> Parsed | None:
        known = self._binary.get(body[:json_length]) if json_length <= _MOST_AROUND else None
        if known is None or len(body) != json_length + known.size:
            return None
        array = np.frombuffer(body, known.dtype, offset=json_length).reshape(known.shape)
        return _again(known.parsed, known.name, array, version)

    def _remember_binary(
        self, body: bytes, parsed: Parsed, name: str, array: Array, json_length: int
    ) -> None:
        if (
            array.dtype.kind not in "fiu"
            or len(body) != json_length + array.nbytes
            or not array.size
        ):
            return
        if len(self._binary) >= _MOST:
            self._binary.clear()
        if json_length <= _MOST_AROUND:
            self._binary[body[:json_length]] = _Binary(
                parsed, name, array.shape, array.nbytes, array.dtype
            )


def _again(parsed: Parsed, name: str, array: Array, version: str) -> Parsed:
    request, binary, others = parsed
    again = InferRequest(
        request.model, {name: array}, version, request.outputs, "", request.parameters
    )
    return Parsed(again, binary, others)
