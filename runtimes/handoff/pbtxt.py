"""Write protobuf's text format: https://protobuf.dev/reference/protobuf/textformat-spec/ ."""

from collections.abc import Sequence
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
"""Field -> a string, a number, a ``Word``, a message, or a list of these."""


class Word(str):
    """The name of an enumeration's value, which is not quoted."""

    __slots__ = ()


def dumps(message: Message) -> str:
    r"""Write a message, a field a line.

    Examples:
        >>> message = {"name": "a\"b", "kind": Word("CPU"), "dims": [1, -1], "empty": {}}
        >>> print(dumps(message), end="")
        name: "a\"b"
        kind: CPU
        dims: [1, -1]
        empty {
        }
    """
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Message) -> list[str]:
    lines: list[str] = []
    for field, value in message.items():
        if isinstance(value, dict):
            lines += _block(field, value)
        elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
            for entry in value:
                lines += _block(field, entry)
        elif isinstance(value, list):
            lines.append(f"{field}: [{', '.join(map(_scalar, value))}]")
        else:
            lines.append(f"{field}: {_scalar(value)}")
    return lines


def _block(field: str, message: Message) -> Sequence[str]:
    return [f"{field} {{", *(f"  {line}" for line in _lines(message)), "}"]


def _scalar(value: object) -> str:
    if isinstance(value, str) and not isinstance(value, Word):
        return f'"{"".join(map(_escaped, value.encode("utf-8")))}"'
    return str(value)


def _escaped(byte: int) -> str:
    if byte in b'"\\':
        return f"\\{chr(byte)}"
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"
