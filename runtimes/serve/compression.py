"""gzip and deflate, both ways, within limits: a megabyte of gzip can hold a gigabyte of zeros."""

import zlib
from typing import Final

from edgeport.runtimes.errors import InputError

SMALLEST_BYTES: Final = 1024
"""An answer that is shorter is sent as it is, even to a client that takes gzip."""

MOST_EXPANSION: Final = 1032
"""Bytes that one of deflate can hold: https://zlib.net/zlib_tech.html"""

_FORMATS: Final = {"gzip": 31, "x-gzip": 31, "deflate": zlib.MAX_WBITS}
_LEVEL: Final = 1  # numbers hardly shrink further


class TooLong(Exception):  # noqa: N818  # an answer of its own: 413
    """The body is longer than allowed once it is decompressed."""


def decompress(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """Undo the encoding of a request.

    Args:
        body: What came.
        encoding: The header ``Content-Encoding``.
        most_bytes: Longest result.

    Raises:
        InputError: The encoding is unknown, or the body is damaged.
        TooLong: The result would be longer.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _FORMATS:
        raise InputError(
            f"the body is encoded as {encoding!r}, expected gzip or deflate",
            remedy="send it as it is, without Content-Encoding",
        )
    stream = zlib.decompressobj(_FORMATS[name])
    try:
        found = stream.decompress(body, most_bytes + 1)
    except zlib.error as e:
        raise InputError(f"the body is not {name}: {e}", remedy="compress it again") from e
    if len(found) > most_bytes:
        raise TooLong
    if not stream.eof or stream.unused_data:
        what = "has something behind its end" if stream.eof else "is cut off"
        raise InputError(f"the body is {name}, and {what}", remedy="compress it again")
    return found


def accepted(header: bytes) -> str | None:
    """The encoding that a client takes: ``gzip``, ``deflate``, or ``None`` for no other.

    Args:
        header: ``Accept-Encoding``.
    """
    wanted = {}
    for part in header.decode("latin-1").lower().split(","):
        name, _, weight = part.strip().partition(";")
        wanted[name.strip()] = weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return next((name for name in ("gzip", "deflate") if wanted.get(name)), None)


def compress(body: bytes, encoding: str) -> bytes:
    """Encode an answer."""
    stream = zlib.compressobj(_LEVEL, wbits=_FORMATS[encoding])
    return stream.compress(body) + stream.flush()
