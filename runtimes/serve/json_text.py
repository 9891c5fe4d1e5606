"""JSON in and out: orjson where it is strict enough, Python's own where it is not.

orjson takes a repeated key silently, refuses the ``NaN`` and ``Infinity`` that clients send, and
writes them as ``null``. So what it read is believed only if the body has as many quotes as the
values have strings; and numbers that are not finite are written by Python.
"""

import itertools
import json
import math
import re
from collections import Counter
from typing import Any, Final

import orjson

from edgeport.runtimes.errors import InputError

MAX_DEPTH: Final = 64

_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # linear: no backtracking
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_STEPS: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY


def loads(body: bytes) -> Any:
    """Read JSON from a stranger. ``NaN``, ``Infinity`` and ``-Infinity`` are numbers.

    Raises:
        InputError: It is not JSON in UTF-8, repeats a key, or nests too deeply.
    """
    if not body:
        raise InputError("the body is empty", remedy="send an Open Inference Protocol v2 request")
    _check_depth(body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _loads_slowly(body)
    if b"\\" in body or body.count(b'"') != 2 * _strings(value):
        return _loads_slowly(body)
    return value


def dumps(value: object) -> bytes:
    """Write compact JSON; contiguous numpy arrays are lists, and numbers must be finite."""
    return orjson.dumps(value, option=_NUMPY)


def dumps_all(value: object) -> bytes:
    """Write compact JSON in ASCII with ``NaN`` and ``Infinity``, as Python's clients read it."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _strings(value: object) -> int:
    """How many strings there are, keys included; in lists, only where the first entry is one."""
    if type(value) is str:
        return 1
    if type(value) is dict:
        return len(value) + sum([_strings(each) for each in value.values()])
    if type(value) is list and value:
        first = type(value[0])
        if first is str:
            return len(value)
        if first is dict or first is list:
            return sum([_strings(each) for each in value])
    return 0


def _loads_slowly(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_float=_finite)
    except (ValueError, RecursionError) as e:
        raise InputError(
            f"the body is not valid JSON: {e}",
            remedy="send an Open Inference Protocol v2 request in UTF-8",
        ) from e


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _check_depth(body: bytes) -> None:
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
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the key {twice!r} appears twice in one object")
    return found
