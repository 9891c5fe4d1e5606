"""JSON into the types that a dataclass declares: exactly its fields, each of exactly its type."""

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

_T = TypeVar("_T")


def read(kind: type[_T], value: object, where: str) -> _T:
    """Build a value of a type from what ``json.loads`` gave.

    Args:
        kind: A scalar type, ``None``, a union, ``tuple[X, ...]``, ``Mapping[str, X]``, or a frozen
            dataclass of such.
        value: The JSON.
        where: What to call it in an error.

    Raises:
        ValueError: It is something else; a number is not finite.

    Examples:
        >>> read(tuple[int, ...], [1, 2], "sizes")
        (1, 2)
    """
    return cast(_T, _read(kind, value, where))


def _read(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_dataclass(kind, value, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is {value!r}, expected a list")
        return tuple(_read(arguments[0], item, where) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, dict):
            raise ValueError(f"{where} is {value!r}, expected an object")
        return {key: _read(arguments[1], item, f"{key} in {where}") for key, item in value.items()}
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where} is {value!r}, expected {getattr(kind, '__name__', kind)}")
    return value


def _read_dataclass(kind: Any, value: Any, where: str) -> Any:
    hints = get_type_hints(kind)
    if not isinstance(value, dict) or set(value) != set(hints):
        found = sorted(value) if isinstance(value, dict) else repr(value)
        raise ValueError(f"{where} has {found}, expected {sorted(hints)}")
    fields = {name: _read(hint, value[name], f"{name} in {where}") for name, hint in hints.items()}
    return kind(**fields)


def _read_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        try:
            return _read(kind, value, where)
        except ValueError:
            continue
    names = ", ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
    raise ValueError(f"{where} is {value!r}, expected one of {names}")
