"""Header blocks: decoded by hpack, checked by the rules of HTTP/2 (RFC 9113, section 8.2 and 8.3).

A client that asks the same again sends a block of indices into the table that both sides keep, and
such a block changes nothing in it: its meaning is remembered until another kind of block comes.
Decoding one afresh costs more than all the rest of a small call.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

import hpack

from .frames import Code, ConnectionFault

Headers: TypeAlias = Mapping[bytes, bytes]

LARGEST_BYTES: Final = 2**14
"""Of all headers of a request, as HTTP/2 counts them."""

_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_BANNED: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_MOST_REMEMBERED: Final = 64


class HeaderReader:
    """Decodes one connection's header blocks, in their order."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=LARGEST_BYTES)
        self._known: dict[bytes, Headers | None] = {}

    def read(self, block: bytes) -> Headers | None:
        """Decode the block of a request; ``None`` if it breaks a rule of HTTP.

        Raises:
            ConnectionFault: It cannot be decoded, so that no later one can be either.
        """
        if block in self._known:
            return self._known[block]
        try:
            pairs = self._decoder.decode(block, raw=True)
        except hpack.OversizedHeaderListError as e:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the headers are too long") from e
        except (hpack.HPACKError, ValueError, IndexError) as e:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "the headers cannot be decoded") from e
        found = _checked([(bytes(pair[0]), bytes(pair[1])) for pair in pairs])
        if _is_indices(block):
            if len(self._known) < _MOST_REMEMBERED:
                self._known[block] = found
        else:
            self._known.clear()
        return found


def _is_indices(block: bytes) -> bool:
    """Whether each byte is an index by itself (RFC 7541, 6.1): high bit, and no longer number."""
    return len(block) > 0 and min(block) >= 0x80 and 0xFF not in block


def _checked(pairs: list[tuple[bytes, bytes]]) -> Headers | None:
    found: dict[bytes, bytes] = {}
    regular = False
    for name, value in pairs:
        if name.startswith(b":"):
            if regular or name not in _PSEUDO or name in found:
                return None
        else:
            regular = True
            if not name or name != name.lower() or name in _BANNED:
                return None
            if name == b"te" and value != b"trailers":
                return None
        if any(byte in value for byte in b"\r\n\0"):
            return None
        found[name] = found[name] + b"," + value if name in found else value
    if not all(found.get(name) for name in (b":method", b":scheme", b":path")):
        return None
    return found


def literal(name: bytes, value: bytes) -> bytes:
    """A header that leaves the client's table alone (RFC 7541, 6.2.2), without Huffman's code."""
    return b"\x00" + _number(len(name)) + name + _number(len(value)) + value


def _number(value: int) -> bytes:
    """An integer with a prefix of seven bits (RFC 7541, 5.1)."""
    if value < 127:
        return bytes((value,))
    found, value = bytearray((127,)), value - 127
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
