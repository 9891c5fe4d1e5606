"""Frozen dataclasses as JSON, and back: the types of their fields are the format.

What is written is finite: JSON has neither NaN nor infinity. Reading takes exactly what writing
makes, so that a file of another version, or a damaged one, is told from a right one.
"""

import contextlib
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeAlias, TypeVar

import numpy as np

from . import strict_json

T = TypeVar("T")

Count: TypeAlias = Annotated[int, "count"]
"""An integer that is not negative."""

Size: TypeAlias = Annotated[float, "size"]
"""A number that is not negative; infinity is ``null`` in JSON."""


def to_json(value: Any) -> Any:
    """Plain values for ``json.dumps``: a dataclass as an object, a tuple or integers as a list.

    A class may name properties in ``DERIVED``: they are written for readers, and not read.
    """
    if (names := _fields(type(value))) is not None:
        return {name: to_json(getattr(value, name)) for name in (*_derived(type(value)), *names)}
    if isinstance(value, Mapping):
        return {key: to_json(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [to_json(each) for each in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: type[T], value: object, what: str = "it") -> T:
    """Read what ``to_json`` wrote of a ``kind``; ``what`` is its name in an error.

    Raises:
        ValueError: It is something else.
    """
    return typing.cast("T", _read(kind, value, what))


def _read(kind: Any, value: object, what: str) -> Any:
    if isinstance(kind, type) and _fields(kind) is not None:
        return _record(kind, value)
    arguments = typing.get_args(kind)
    match typing.get_origin(kind):
        case typing.Annotated:
            return _bounded(arguments[1], value, what)
        case typing.Literal:
            return _choice(arguments, value, what)
        case types.UnionType | typing.Union:
            return _one_of(arguments, value, what)
        case origin if origin is tuple:
            items = strict_json.expect(list, value, what)
            return tuple(_read(arguments[0], each, what) for each in items)
        case origin if origin in (dict, Mapping):
            pairs = strict_json.expect(dict, value, what).items()
            return {
                _read(arguments[0], key, f"a key of {what}"): _read(
                    arguments[1], each, f"{what} {key!r}"
                )
                for key, each in pairs
            }
        case _ if kind is float:
            return strict_json.number(value, what)
        case _:
            return strict_json.expect(kind, value, what)


def _record(kind: Any, value: object) -> Any:
    hints = _hints(kind)
    found = strict_json.fields(value, *hints, *_derived(kind))  # in this order
    return kind(
        **{
            name: _read(hint, each, name)
            for (name, hint), each in zip(hints.items(), found, strict=False)
        }
    )


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in _fields(kind) or ()}


def _fields(kind: type) -> tuple[str, ...] | None:
    """Of a dataclass; ``None`` of another class. To import ``dataclasses`` takes 2 ms."""
    found: tuple[str, ...] | None = getattr(kind, "__match_args__", None)
    return found


def _derived(kind: type) -> tuple[str, ...]:
    return getattr(kind, "DERIVED", ())


def _bounded(bound: str, value: object, what: str) -> float:
    if bound == "count":
        number: float = strict_json.expect(int, value, what)
    else:
        number = math.inf if value is None else strict_json.number(value, what)
    if number < 0:
        raise ValueError(f"{what} is {reprlib.repr(value)}, expected none below 0")
    return number


def _one_of(kinds: tuple[Any, ...], value: object, what: str) -> Any:
    *others, last = (kind for kind in kinds if kind is not types.NoneType)
    if value is None and types.NoneType in kinds:
        return None
    for kind in others:
        with contextlib.suppress(ValueError):
            return _read(kind, value, what)
    return _read(last, value, what)


def _choice(choices: tuple[Any, ...], value: object, what: str) -> Any:
    if isinstance(value, str) and value in choices:
        return value
    raise ValueError(f"{what} is {reprlib.repr(value)}, expected one of {', '.join(choices)}")
