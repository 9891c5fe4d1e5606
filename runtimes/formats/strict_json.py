"""JSON that has one reading only: other people's files are read with this.

Python's own parser takes NaN, Infinity, numbers that overflow to it, and duplicate keys, of
which another reader may believe the first where this one believes the last.
"""

import json
import math
import reprlib
import sys
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")


def parse(text: str | bytes) -> Any:
    """Parse UTF-8 JSON.

    Raises:
        ValueError: It is not JSON, repeats a key, nests too deeply, or holds a number that is
            not finite.
    """
    try:
        return json.loads(
            text if isinstance(text, str) else text.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_constant=_refuse_constant,
        )
    except RecursionError as e:
        raise ValueError("it nests too deeply") from e


def fields(value: object, *names: str) -> tuple[Any, ...]:
    """The values of an object that has exactly these keys, in the order of ``names``.

    Raises:
        ValueError: It is no object, a key is missing, or there is another: an unknown key is a
            promise that this reader would not keep.
    """
    found, unknown = open_fields(value, *names)
    for name in unknown:
        raise ValueError(f"{reprlib.repr(name)} is not a key that belongs there")
    return found


def open_fields(value: object, *names: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The values of an object that has at least these keys, in the order of ``names``.

    Returns:
        Besides, whatever it has under other keys.

    Raises:
        ValueError: It is no object, or a key is missing.
    """
    found = expect(dict, value, "a value")
    for name in names:
        if name not in found:
            raise ValueError(f"{name!r} is missing")
    unknown = {key: each for key, each in found.items() if key not in names}
    return tuple(found[name] for name in names), unknown


def expect(kind: type[T], value: object, what: str) -> T:
    """Return ``value`` if it is a ``kind``; a bool is no int.

    Raises:
        ValueError: It is something else.
    """
    if type(value) is not kind:
        raise ValueError(f"{what} is {reprlib.repr(value)}, expected {_WORDS[kind]}")
    return value


def number(value: object, what: str) -> float:
    """Return ``value`` if it is a number that a float can hold; a bool is none.

    Raises:
        ValueError: It is something else, or an integer beyond all floats.
    """
    if (type(value) is int or type(value) is float) and abs(value) <= sys.float_info.max:
        return value
    raise ValueError(f"{what} is {reprlib.repr(value)}, expected a number")


_WORDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "an integer",
    bool: "true or false",
}


def _object(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {reprlib.repr(key)} is there twice")
        found[key] = value
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {reprlib.repr(text)} is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
