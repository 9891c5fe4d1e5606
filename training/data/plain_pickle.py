"""A pickle of plain values and arrays of bytes, told without unpickling.

Nothing in it is looked up or called: opcodes are read one by one, and what Python 2 wrote for an
array of numpy is known by its form.
"""

import pickletools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from .examples import Array

_NAMES: Final = frozenset(
    {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
)  # an array is _reconstruct(ndarray, (0,), "b"), a kind dtype("u1", 0, 1); each has a state, too


@dataclass(slots=True)
class _Made:
    """What would come of a call."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


def read_plain(data: bytes) -> object:
    """Read what a pickle describes; text is latin-1.

    Args:
        data: Whole, of protocol 0 to 2.

    Returns:
        ``None``, numbers, strings, tuples, lists and dictionaries.

    Raises:
        ValueError: It is damaged, or names anything but numpy's arrays.
    """
    try:
        with warnings.catch_warnings():  # pickletools undoes odd escapes of text with one
            warnings.simplefilter("ignore", DeprecationWarning)
            return _told(data)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as e:
        raise ValueError(f"it is no pickle of plain values: {e}") from e


def _told(data: bytes) -> object:
    machine = _Machine()
    for code, value, _ in pickletools.genops(data):
        if code.name == "STOP":
            return machine.stack.pop()
        if code.name not in _STEPS:
            raise ValueError(f"it holds {code.name}")
        _STEPS[code.name](machine, value)
    raise ValueError("it has no end")


def byte_array(made: object) -> Array:
    """The array that a part of what was read describes: uint8.

    Raises:
        ValueError: It is no array of bytes, or a damaged one.
    """
    if isinstance(made, _Made) and made.name == "numpy.core.multiarray _reconstruct":
        match made.state:
            case (_, tuple() as shape, _Made("numpy dtype", ("u1", *_)), False, str() as text):
                return np.frombuffer(text.encode("latin-1"), np.uint8).reshape(shape)
    raise ValueError("it is no array of uint8")


@dataclass(slots=True)
class _Machine:
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def marked(self) -> list[Any]:
        found, self.stack = self.stack, self.below.pop()
        return found

    def take(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("nothing is there")
        found = self.stack[-count:]
        del self.stack[-count:]
        return found

    def extend(self, values: Sequence[Any]) -> None:
        self.stack[-1].extend(values)

    def update(self, flat: Sequence[Any]) -> None:
        self.stack[-1].update(zip(flat[::2], flat[1::2], strict=True))

    def name(self, name: str) -> None:
        if name not in _NAMES:
            raise ValueError(f"it names {name.replace(' ', '.')}")
        self.push(_Made(name))

    def call(self) -> None:
        made, arguments = self.take(2)
        self.push(_Made(made.name, tuple(arguments)))

    def build(self) -> None:
        (state,) = self.take(1)
        self.stack[-1].state = state

    def pairs(self) -> None:
        flat = self.marked()
        self.push({})
        self.update(flat)

    def put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]


_STEPS: Final[Mapping[str, Callable[[_Machine, Any], object]]] = {
    "PROTO": lambda m, _: None,
    "MARK": lambda m, _: m.mark(),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    **dict.fromkeys(
        ("INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING",
         "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE"),
        lambda m, value: m.push(value),
    ),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "TUPLE": lambda m, _: m.push(tuple(m.marked())),
    "TUPLE1": lambda m, _: m.push(tuple(m.take(1))),
    "TUPLE2": lambda m, _: m.push(tuple(m.take(2))),
    "TUPLE3": lambda m, _: m.push(tuple(m.take(3))),
    "LIST": lambda m, _: m.push(m.marked()),
    "DICT": lambda m, _: m.pairs(),
    "APPEND": lambda m, _: m.extend(m.take(1)),
    "APPENDS": lambda m, _: m.extend(m.marked()),
    "SETITEM": lambda m, _: m.update(m.take(2)),
    "SETITEMS": lambda m, _: m.update(m.marked()),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, place: m.put(place)),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"), lambda m, place: m.push(m.memo[place])
    ),
    "GLOBAL": lambda m, name: m.name(name),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
}  # fmt: skip
