"""Long JSON, so that nobody else has to wait for it: its numbers are read a piece at a time.

A parser keeps the interpreter until it has read all of them, and no thread helps. So each long
array is cut out of a request, a string stands in for it while the rest is read with all care, and
its text is parsed in pieces, between which others have their turn.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from .json_text import loads

LONG_BYTES: Final = 2**16
"""What is longer is cut out, and into pieces of this size: each takes about a millisecond."""

_MARK: Final = "cut out by edgeport: "
_DATA: Final = re.compile(rb'"data"[ \n\r\t]*:[ \n\r\t]*(?=\[)')
_SPACED: Final = bytes.maketrans(b"[]", b"  ")
_NO_STRUCTURE: Final = bytes(set(range(256)) - set(b"[],"))


@dataclass(frozen=True, slots=True)
class Numbers:
    """The text of an array without strings and objects. It need not be JSON."""

    text: bytes

    def pieces(self) -> Iterator[list[Any]]:
        """Its values, flat.

        Raises:
            ValueError: They are none.
        """
        for piece in self._texts():
            yield orjson.loads(b"[%b]" % piece.translate(_SPACED))

    def has_shape(self, shape: Sequence[int]) -> bool:
        """Whether there is a place for each value, flat or nested; ``shape`` has no zero in it."""
        found = b",".join(piece.translate(None, _NO_STRUCTURE) for piece in self._texts())
        nested = b""
        for size in reversed(shape):
            nested = b"[%b]" % b",".join([nested] * size)
        return found in (nested, b"[%b]" % nested.translate(None, b"[]"))

    def loads(self) -> Any:
        """Its values as they are nested.

        Raises:
            InputError: It is not JSON.
        """
        return loads(self.text)

    def _texts(self) -> Iterator[bytes]:
        start, text = 0, self.text
        while start < len(text):
            stop = text.find(b",", start + LONG_BYTES)
            stop = len(text) if stop < 0 else stop
            yield text[start:stop]
            start = stop + 1


def loads_long(body: bytes) -> Any:
    """As ``loads``, but long ``data`` of ``inputs`` are ``Numbers``.

    Raises:
        InputError: As ``loads``.
    """
    held: dict[str, Numbers] = {}
    rest, done = b"", 0
    for start, stop in _long_arrays(body):
        mark = f"{_MARK}{len(held)}"
        rest += b'%b["%b"]' % (body[done:start], mark.encode())
        held[mark] = Numbers(body[start:stop])
        done = stop
    if not held or _MARK.encode() in body:
        return loads(body)
    value = loads(rest + body[done:])
    inputs = value.get("inputs") if isinstance(value, dict) else None
    for entry in inputs if isinstance(inputs, list) else ():
        match entry:
            case {"data": [str(mark)]} if mark in held:
                entry["data"] = held.pop(mark)
    return loads(body) if held else value


def _long_arrays(body: bytes) -> Iterator[tuple[int, int]]:
    """Where long arrays lie that may be ``data``; there is no string and no object in them."""
    place = body.find(b'"data"')
    while place >= 0:
        match = _DATA.match(body, place)
        if match is not None:
            start = match.end()
            after = body.find(b'"', start)  # first, or many arrays would each look to the end
            brace = body.find(b"}", start, after if after >= 0 else None)
            stop = body.rfind(b"]", start, brace if brace >= 0 else max(after, 0)) + 1
            if stop - start > LONG_BYTES:
                yield start, stop
            place = max(stop, start)
        place = body.find(b'"data"', place + 1)
