"""An ONNX file is counted before anything parses it: a short one can describe endless work.

Functions of a model are written once and unfolded wherever they are called: 1.6 kB of functions
that call one another twice each are 2^30 nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, TypeAlias

from edgeport.runtimes.formats import onnx_fields as fields
from edgeport.runtimes.formats.protobuf import Data, parts

MOST_NODES: Final = 1_000_000
"""Unfolded. The largest graphs that people export have some 100,000."""
DEEPEST: Final = 32
"""Graphs in attributes of nodes of graphs; protobuf itself ends at 100 messages, three a graph."""
LARGEST_BYTES: Final = 2**31 - 1
"""protobuf's own limit; larger weights lie in external data."""

_FUNCTION: Final = (fields.FUNCTION_DOMAIN, fields.FUNCTION_NAME, fields.FUNCTION_OVERLOAD)
_CALLED: Final = (fields.NODE_DOMAIN, fields.NODE_OP_TYPE, fields.NODE_OVERLOAD)

_Key: TypeAlias = tuple[bytes, bytes, bytes]
"""Domain, name and overload of an operator."""


def check_onnx(data: Data) -> None:
    """Refuse a model that a parser could choke on.

    Raises:
        ValueError: It is too large, has too many nodes, nests too deeply, or calls itself.
    """
    if len(data) > LARGEST_BYTES:
        raise ValueError(f"it has {len(data)} bytes, at most {LARGEST_BYTES} can be parsed")
    functions: dict[_Key, Counter[_Key]] = {}
    for place in fields.each(data, 0, len(data), fields.MODEL_FUNCTIONS):
        functions[_key(data, *place, _FUNCTION)] = _operators(data, *place, fields.FUNCTION_NODE)
    main: Counter[_Key] = Counter()
    for place in fields.each(data, 0, len(data), fields.MODEL_GRAPH):
        main += _operators(data, *place, fields.GRAPH_NODE)
    _refuse_many(main, functions)


def _operators(data: Data, start: int, end: int, node: int) -> Counter[_Key]:
    """How often each operator is called, in graphs inside it too."""
    found: Counter[_Key] = Counter()
    count = 0  # Counter.total() adds all up: with a body a node, that is quadratic
    waiting = [(start, end, node, 0)]
    while waiting:
        start, end, node, depth = waiting.pop()
        if depth > DEEPEST:
            raise ValueError(f"its graphs nest more than {DEEPEST} deep")
        for place in fields.each(data, start, end, node):
            found[_key(data, *place, _CALLED)] += 1
            count += 1
            inner = fields.bodies(data, *place)
            waiting += ((*body, fields.GRAPH_NODE, depth + 1) for body in inner)
        if count > MOST_NODES:
            raise ValueError(f"it has more than {MOST_NODES:,} nodes")
    return found


def _key(data: Data, start: int, end: int, numbers: tuple[int, int, int]) -> _Key:
    found = {
        number: data[first:last]
        for number, first, last in parts(data, start, end)
        if number in numbers
    }
    domain, name, overload = (found.get(number, b"") for number in numbers)
    return (b"" if domain == b"ai.onnx" else domain, name, overload)


def _refuse_many(main: Counter[_Key], functions: dict[_Key, Counter[_Key]]) -> None:
    """Count every node, with those of the functions wherever they are called."""
    sizes: dict[_Key, int] = {}
    open_: list[tuple[_Key, bool]] = [(key, False) for key in functions]
    inside: set[_Key] = set()
    while open_:
        key, done = open_.pop()
        if done:
            inside.discard(key)
            sizes[key] = _total(functions[key], sizes.get)
        elif key in inside:
            raise ValueError(f"its function {key[1]!r} calls itself")
        elif key not in sizes:
            inside.add(key)
            open_.append((key, True))
            open_ += ((called, False) for called in functions[key] if called in functions)
    _total(main, sizes.get)


def _total(calls: Counter[_Key], size_of: Callable[[_Key, int], int]) -> int:
    total = sum(count * size_of(key, 1) for key, count in calls.items())
    if total > MOST_NODES:
        raise ValueError(f"it unfolds to more than {MOST_NODES:,} nodes")
    return max(total, 1)
