"""What a pickle of TorchScript says, told without unpickling: no name in it is looked up or called.

The opcodes are those that torch writes (torch/csrc/jit/serialization/pickler.cpp), and no others.
What they would make is told as plain values; what they would call, as a ``Made``. Nothing that
nests is hashed, compared or printed: a few hundred bytes can nest so that it never ends.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_MOST_STEPS: Final = 2_000_000
"""Opcodes. A tensor takes about 40; one costs up to 3 µs and 100 bytes."""

LONGEST_NAME: Final = 1000
"""Characters of a key."""


@dataclass(slots=True)
class Made:
    """What would come of a call.

    Attributes:
        name: What would be called, with its module: ``torch._utils._rebuild_tensor_v2``.
        args: With what.
        state: What it would be told of itself then; ``None`` if nothing.
    """

    name: str
    args: Any
    state: Any = None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What lies in another file of the archive: a storage.

    Attributes:
        key: ``("storage", Made, file, device, count)`` as torch writes it.
    """

    key: Any


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: list[Any] = []

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        found, self.stack = self.stack, self.below.pop()
        return found

    def put(self, values: Sequence[Any]) -> None:  # marked() exchanged the stack before
        self.stack[-1].extend(values)

    def put_pairs(self, flat: Sequence[Any]) -> None:
        self.stack[-1].update(
            (_text(key), value) for key, value in zip(flat[::2], flat[1::2], strict=True)
        )

    def remember(self, place: int) -> None:  # torch counts the places
        self.memo[place : place + 1] = [self.stack[-1]]
        if place >= len(self.memo):
            raise IndexError(f"place {place} is not the next one")

    def take(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError("nothing is there")
        found = tuple(self.stack[-count:])
        del self.stack[-count:]
        return found

    def call(self) -> None:
        made, args = self.take(2)
        self.stack.append(Made(made.name, args))

    def build(self) -> None:
        (state,) = self.take(1)
        self.stack[-1].state = state


def _text(key: Any) -> str:
    """A key as text, whose hash nobody can foresee: numbers of one hash make a slow dictionary."""
    if type(key) not in (str, int, float, bool):
        raise ValueError("a key is no text and no number")
    text = str(key)
    if len(text) > LONGEST_NAME:
        raise ValueError(f"a key has {len(text)} characters")
    return text


_Step = Callable[[_Machine, Any], object]

_STEPS: Final[Mapping[str, _Step]] = {
    "PROTO": lambda m, _: None,
    "MARK": lambda m, _: m.mark(),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "BINSTRING"),
        lambda m, value: m.push(value),
    ),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "TUPLE": lambda m, _: m.push(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.push(m.take(1)),
    "TUPLE2": lambda m, _: m.push(m.take(2)),
    "TUPLE3": lambda m, _: m.push(m.take(3)),
    "APPEND": lambda m, _: m.put(m.take(1)),
    "APPENDS": lambda m, _: m.put(m.marked()),
    "SETITEM": lambda m, _: m.put_pairs(m.take(2)),
    "SETITEMS": lambda m, _: m.put_pairs(m.marked()),
    "BINPUT": lambda m, place: m.remember(place),
    "LONG_BINPUT": lambda m, place: m.remember(place),
    "BINGET": lambda m, place: m.push(m.memo[place]),
    "LONG_BINGET": lambda m, place: m.push(m.memo[place]),
    "GLOBAL": lambda m, name: m.push(Made(name.replace(" ", "."), None)),
    "BINPERSID": lambda m, _: m.push(Elsewhere(*m.take(1))),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}


def told(data: bytes) -> Any:
    """The value that a pickle describes: plain values, ``Made`` and ``Elsewhere``.

    It may hold itself, and one part may be held many times: whoever walks it counts the steps. Keys
    of dictionaries are told as text.

    Raises:
        ValueError: It is damaged, holds what TorchScript does not write, or too much of it.
    """
    machine = _Machine()
    try:
        for step_number, (code, value, _) in enumerate(pickletools.genops(data)):
            if step_number >= _MOST_STEPS:
                raise ValueError(f"it has more than {_MOST_STEPS:,} steps")
            if code.name == "STOP":
                return machine.stack.pop()
            step = _STEPS.get(code.name)
            if step is None:
                raise ValueError(f"it holds {code.name}")
            step(machine, value)
        raise ValueError("it has no end")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as e:
        raise ValueError(f"a pickle in it is not as torch writes it: {e}") from e
