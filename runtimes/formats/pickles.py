"""What a pickle says, told without unpickling: no name in it is looked up or called.

Opcodes are read one by one, and those that no caller has a step for are refused. What they would
make is told as plain values; what they would call, as a ``Made``.
"""

from __future__ import annotations

import pickletools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias


@dataclass(slots=True)
class Made:
    """What would come of a call.

    Attributes:
        name: What would be called, with its module: ``torch._utils._rebuild_tensor_v2``.
        args: With what.
        state: What it would be told of itself then; ``None`` if nothing.
    """

    name: str
    args: Any = None
    state: Any = None


class Machine:
    """What opcodes work on: a stack, the stacks below its marks, and what is remembered."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def mark(self) -> None:
        """Begin a stack."""
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        """All since the last mark."""
        found, self.stack = self.stack, self.below.pop()
        return found

    def take(self, count: int) -> tuple[Any, ...]:
        """So many from the top."""
        if len(self.stack) < count:
            raise IndexError("nothing is there")
        found = tuple(self.stack[-count:])
        del self.stack[-count:]
        return found

    def extend(self, values: Sequence[Any]) -> None:
        """The list on the top; ``marked`` has exchanged the stack before."""
        self.stack[-1].extend(values)

    def update(self, flat: Sequence[Any]) -> None:
        """The dictionary on the top: keys and values in turn."""
        self.stack[-1].update(zip(flat[::2], flat[1::2], strict=True))

    def pairs(self) -> None:
        """A dictionary of all since the last mark."""
        flat = self.marked()
        self.push({})
        self.update(flat)

    def remember(self, place: int) -> None:
        """Keep what is on the top."""
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        """Put on the stack what was kept."""
        if place not in self.memo:
            raise IndexError(f"place {place} holds nothing")
        self.push(self.memo[place])

    def name(self, name: str) -> None:
        """What something is called."""
        self.push(Made(name.replace(" ", ".")))

    def call(self) -> None:
        """Call what is below the top with it."""
        made, args = self.take(2)
        self.push(Made(made.name, args))

    def build(self) -> None:
        """Tell what is below the top of itself."""
        (state,) = self.take(1)
        self.stack[-1].state = state


Step: TypeAlias = Callable[[Machine, Any], object]

STEPS: Final[Mapping[str, Step]] = {
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
    "APPEND": lambda m, _: m.extend(m.take(1)),
    "APPENDS": lambda m, _: m.extend(m.marked()),
    "SETITEM": lambda m, _: m.update(m.take(2)),
    "SETITEMS": lambda m, _: m.update(m.marked()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda m, place: m.remember(place)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda m, place: m.recall(place)),
    "GLOBAL": lambda m, name: m.name(name),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}
"""What protocol 2 usually takes."""

OLD_STEPS: Final[Mapping[str, Step]] = {
    **dict.fromkeys(
        ("INT", "LONG", "FLOAT", "STRING", "SHORT_BINSTRING", "UNICODE"),
        lambda m, value: m.push(value),
    ),
    "LIST": lambda m, _: m.push(m.marked()),
    "DICT": lambda m, _: m.pairs(),
    "PUT": lambda m, place: m.remember(place),
    "GET": lambda m, place: m.recall(place),
}
"""What protocols 0 and 1 take besides."""


def told(
    data: bytes, machine: Machine, steps: Mapping[str, Step], most_steps: int = sys.maxsize
) -> Any:
    """The value that a pickle describes.

    It may hold itself, and one part may be held many times: whoever walks it counts the steps.

    Raises:
        ValueError: It is damaged, or has opcodes without a step, or more than ``most_steps``.
    """
    try:
        for number, (code, value, _) in enumerate(pickletools.genops(data)):
            if number >= most_steps:
                raise ValueError(f"it has more than {most_steps:,} steps")
            if code.name == "STOP":
                return machine.stack.pop()
            if code.name not in steps:
                raise ValueError(f"it holds {code.name}")
            steps[code.name](machine, value)
    except (LookupError, TypeError, AttributeError, OverflowError) as e:
        raise ValueError(str(e)) from e
    raise ValueError("it has no end")
