"""The ``data`` of a tensor in JSON, as numpy: flat or nested, and nothing is guessed.

A number that its datatype cannot hold, a bool among numbers, a ragged row: each is an error that
names the first offender.
"""

import itertools
import json
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeport.runtimes.errors import InputError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import LARGEST_DIMENSION

from .bytes_tensor import check_count
from .long_json import Numbers
from .requests import DATATYPES

_MOST_AXES: Final = 32  # what numpy 1 can hold
_REALS: Final = frozenset({int, float})
_LARGEST: Final = {2: 65504.0, 4: 3.4028234e38}
"""By size in bytes: what a float can hold, in IEEE 754."""


def check_shape(name: str, shape: object) -> list[int]:
    """Return a shape that is one.

    Raises:
        InputError: It is no list of sizes.
    """
    if not isinstance(shape, list) or len(shape) > _MOST_AXES:
        raise InputError(
            f"the shape of input {name!r} is {shown(shape)}, expected at most {_MOST_AXES} sizes",
            remedy='send "shape": [1, 4], for example',
        )
    for size in shape:
        if type(size) is not int or not 0 <= size <= LARGEST_DIMENSION:
            raise InputError(
                f"the shape of input {name!r} holds {shown(size)}, which is no size",
                remedy="write sizes as integers, the real ones in place of -1",
            )
    return shape


def to_array(name: str, data: object, shape: list[int], dtype: np.dtype[Any]) -> Array:
    """Make an array of JSON values.

    Args:
        name: The input's, for an error.
        data: A list of values in row-major order, flat or nested as ``shape`` says; or its text.
        shape: Its sizes.
        dtype: What a value is; ``object`` for strings, which become UTF-8.

    Raises:
        InputError: The values do not fit shape or dtype.
    """
    if isinstance(data, Numbers):
        array = _in_pieces(name, data, shape, dtype)
        if array is not None:
            return array
        data = data.loads()
    flat = _flat(name, data, shape)
    count = math.prod(shape)
    if len(flat) != count:
        raise InputError(
            f"input {name!r} has {len(flat)} values, its shape {shape} needs {count}",
            remedy="correct 'shape' or 'data'",
        )
    array = _array(name, flat, dtype)
    try:
        return array.reshape(shape)
    except ValueError as e:
        raise InputError(
            f"input {name!r} cannot have shape {shape}: {e}", remedy="correct 'shape'"
        ) from e


def narrowed(name: str, flat: list[Any], dtype: np.dtype[Any]) -> Array:
    """Make an array of a float dtype of numbers.

    Raises:
        InputError: One of them is finite, and would not be.
    """
    try:
        wide = np.array(flat, np.float64)
    except OverflowError as e:  # an integer of more than 308 digits
        raise _out_of_range(name, max(flat, key=abs), dtype) from e
    if dtype == wide.dtype:
        return wide
    if _square(wide) <= _LARGEST[dtype.itemsize] ** 2:  # one product: none is larger, or NaN
        return wide.astype(dtype)
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    if (lost := np.isinf(narrow) & np.isfinite(wide)).any():
        raise _out_of_range(name, flat[int(lost.argmax())], dtype)
    return narrow


@np.errstate(over="ignore")  # as a decorator it costs a third of what "with" does
def _square(wide: NDArray[np.float64]) -> float:
    return float(wide.dot(wide))


def shown(value: object) -> str:
    """Name a JSON value in an error: what it is if it is large, itself otherwise."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _in_pieces(name: str, numbers: Numbers, shape: list[int], dtype: np.dtype[Any]) -> Array | None:
    """Make the array; ``None`` if something is wrong, which can be told when all of it is known."""
    try:
        array = np.concatenate([_array(name, piece, dtype) for piece in numbers.pieces()])
    except ValueError:  # InputError is one
        return None
    if array.size != math.prod(shape) or not numbers.has_shape(shape):
        return None
    return array.reshape(shape)


def _flat(name: str, data: object, shape: Sequence[int]) -> list[Any]:
    if not isinstance(data, list):
        raise InputError(
            f"the data of input {name!r} is {shown(data)}, expected a list",
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


def _array(name: str, flat: list[Any], dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return _floats(name, flat, dtype)
    if dtype.kind == "b":
        _check_types(name, flat, frozenset({bool}), "true or false")
        return np.array(flat, dtype)
    if dtype.kind == "O":
        return _strings(name, flat)
    _check_types(name, flat, frozenset({int}), "an integer")
    limits = np.iinfo(dtype)
    if flat and not limits.min <= min(flat) <= max(flat) <= limits.max:
        raise _out_of_range(name, min(flat) if min(flat) < limits.min else max(flat), dtype)
    return np.array(flat, dtype)


def _floats(name: str, flat: list[Any], dtype: np.dtype[Any]) -> Array:
    if not _REALS.issuperset(map(type, flat)):
        _check_types(name, flat, _REALS, "a number")
    return narrowed(name, flat, dtype)


def _strings(name: str, flat: list[Any]) -> Array:
    check_count(name, len(flat))
    _check_types(name, flat, frozenset({str}), "a string")
    array = np.empty(len(flat), object)
    try:
        array[:] = [text.encode("utf-8") for text in flat]
    except UnicodeEncodeError as e:
        raise InputError(
            f"a string of input {name!r} holds half a surrogate pair: {e}",
            remedy="send it as binary data",
        ) from e
    return array


def _check_types(name: str, flat: list[Any], allowed: frozenset[type], expected: str) -> None:
    if not allowed.issuperset(map(type, flat)):
        index = next(i for i, value in enumerate(flat) if type(value) not in allowed)
        raise InputError(
            f"value {index} of input {name!r} is {shown(flat[index])}, expected {expected}",
            remedy="send values of the datatype, flat or nested as the shape says",
        )


def _out_of_range(name: str, value: float, dtype: np.dtype[Any]) -> InputError:
    return InputError(
        f"input {name!r} holds {shown(value)}, which {DATATYPES[dtype.name]} cannot hold",
        remedy="scale or clip the data",
    )
