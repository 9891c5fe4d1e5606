"""Texts as tensors: one row of Unicode code points per text, which every engine can take."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from .errors import InputError
from .inputs import Array
from .signature import TensorSpec

CHARACTERS: Final = "characters"
"""The free axis of an input that is text."""

PADDING: Final = -1
"""After the end of a text; every code point, zero included, is a character."""

SHORTEST: Final = 8
"""Columns of the shortest table: compilers take sizes of 0 and 1, and their halves, as special."""

MOST_CHARACTERS: Final = 2**22
"""Of texts that go at once, each as long as the longest: a model of tf-idf took 108 bytes each."""

_LAST: Final = 0x10FFFF


def is_text(spec: TensorSpec) -> bool:
    """Whether an input is text as code points."""
    return spec.dtype == "int32" and spec.shape[1:] == (CHARACTERS,)


def encode(texts: Sequence[str], columns: int = 0) -> Array:
    """Make the rows of a tensor out of texts.

    Args:
        texts: Any strings, lone surrogates included.
        columns: At the least, for several inputs that are as wide as the widest.

    Returns:
        text: (len(texts), length of the longest, at least ``SHORTEST``) int32, filled up with
        ``PADDING``.

    Raises:
        InputError: There is no text, or something else is among them.

    Examples:
        >>> encode(["né", "a"])
        array([[110, 233,  -1,  -1,  -1,  -1,  -1,  -1],
               [ 97,  -1,  -1,  -1,  -1,  -1,  -1,  -1]], dtype=int32)
    """
    if isinstance(texts, str) or not len(texts):
        raise InputError(
            f"got {'one string' if isinstance(texts, str) else 'no text'}, expected a list of them",
            remedy="pass a list, [text], with at least one",
        )
    rows = [_code_points(text) for text in texts]
    table = np.full((len(rows), max(SHORTEST, columns, *map(len, rows))), PADDING, np.int32)
    for row, points in zip(table, rows, strict=True):
        row[: len(points)] = points
    return table


def decode(table: Array) -> list[str]:
    """Read the texts back.

    Args:
        table: (texts, length) int32; ``PADDING`` is left out wherever it stands.

    Raises:
        InputError: A number is no code point.

    Examples:
        >>> decode(encode(["né", "a", ""]))
        ['né', 'a', '']
    """
    if table.size and not PADDING <= int(table.min()) <= int(table.max()) <= _LAST:
        raise InputError(
            f"code points from {int(table.min())} to {int(table.max())}, expected 0 to {_LAST}",
            remedy=f"encode texts with edgeport.runtimes.text.encode; {PADDING} is padding",
        )
    rows = (row[row != PADDING].astype("<u4").tobytes() for row in table)
    return [row.decode("utf-32-le", "surrogatepass") for row in rows]


def strings(table: Array, name: str) -> list[str]:
    """Read texts that an engine is to take as strings.

    Args:
        table: (texts, length) int32, ``PADDING`` only after the end of a text.
        name: Of the input, for an error.

    Raises:
        InputError: A row is no string: a code point after the end, a surrogate, no code point.

    Examples:
        >>> strings(encode(["né", ""]), "text")
        ['né', '']
    """
    if bool((ended(table) != table).any()):
        raise InputError(
            f"input {name!r} has characters after the end of a text ({PADDING})",
            remedy="encode texts with edgeport.runtimes.text.encode",
        )
    if bool(((table >= 0xD800) & (table < 0xE000)).any()):
        raise InputError(
            f"input {name!r} has a lone surrogate, which no string of ONNX can hold",
            remedy="decode the text again, as UTF-8; or use a backend that takes code points",
        )
    return decode(table)


def ended(table: Array) -> Array:
    """Texts as they are up to their end, and padding behind it.

    Args:
        table: (texts, length) int32.
    """
    done = np.maximum.accumulate(table == PADDING, axis=1)
    return np.where(done, np.asarray(PADDING, table.dtype), table)


def _code_points(text: object) -> Array:
    if not isinstance(text, str):
        raise InputError(
            f"a text is of type {type(text).__name__}, expected a string",
            remedy="decode bytes first: text.decode('utf-8')",
        )
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
