"""What a pickle of TorchScript says, told without unpickling: no name in it is looked up or called.

The opcodes are those that torch writes (torch/csrc/jit/serialization/pickler.cpp), and no others.
Nothing that nests is hashed, compared or printed: a few hundred bytes can nest so that it never
ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edgeport.runtimes.formats import pickles

_MOST_STEPS: Final = 2_000_000
"""Opcodes. A tensor takes about 40; one costs up to 3 µs and 100 bytes."""

LONGEST_NAME: Final = 1000
"""Characters of a key."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What lies in another file of the archive: a storage.

    Attributes:
        key: ``("storage", Made, file, device, count)`` as torch writes it.
    """

    key: Any


class _Machine(pickles.Machine):
    def update(self, flat: Sequence[Any]) -> None:
        keys = [_text(key) for key in flat[::2]]
        self.stack[-1].update(zip(keys, flat[1::2], strict=True))

    def remember(self, place: int) -> None:
        if place > len(self.memo):  # torch counts the places
            raise IndexError(f"place {place} is not the next one")
        super().remember(place)


def _text(key: Any) -> str:
    """A key as text, whose hash nobody can foresee: numbers of one hash make a slow dictionary."""
    if type(key) not in (str, int, float, bool):
        raise ValueError("a key is no text and no number")
    text = str(key)
    if len(text) > LONGEST_NAME:
        raise ValueError(f"a key has {len(text)} characters")
    return text


_STEPS: Final[Mapping[str, pickles.Step]] = {
    **pickles.STEPS,
    "BINPERSID": lambda m, _: m.push(Elsewhere(*m.take(1))),
    "NEWOBJ": lambda m, _: m.call(),
}


def told(data: bytes) -> Any:
    """The value that a pickle describes: plain values, ``Made`` and ``Elsewhere``.

    It may hold itself, and one part may be held many times: whoever walks it counts the steps. Keys
    of dictionaries are told as text.

    Raises:
        ValueError: It is damaged, holds what TorchScript does not write, or too much of it.
    """
    try:
        return pickles.told(data, _Machine(), _STEPS, _MOST_STEPS)
    except ValueError as e:
        raise ValueError(f"a pickle in it is not as torch writes it: {e}") from e
