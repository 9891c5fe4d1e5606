"""Which nodes of a graph ONNX Runtime put on the CPU although another provider was asked for.

A node that only computes with sizes (``Shape`` and what follows from it) belongs there: a GPU
needs sizes on the CPU to plan its work, and ONNX Runtime moves such nodes on purpose. Whether a
node reads more than sizes, the file tells; what ONNX Runtime made itself is taken to do so.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .protobuf import Data, parts

CPU: Final = "CPUExecutionProvider"

RECORD: Final = "session.record_ep_graph_assignment_info"
"""An entry of the session's settings, so that ``on_cpu`` has something to read. ONNX Runtime
1.24 and later."""

_SIZES: Final = ("Shape", "Size")

_GRAPH, _NODE, _INPUT = 7, 1, 11  # fields of ModelProto and GraphProto; initialisers may be inputs
_INITIALIZER: Final = 5
_TAKES, _GIVES, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5  # of NodeProto
_GRAPHS: Final = (6, 11)  # of AttributeProto: a graph, graphs


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    operator: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    has_body: bool


def on_cpu(session: Any, path: Path) -> tuple[str, ...] | None:
    """The nodes that compute with the model's data on the CPU, as ``"TopK topk_3"``.

    Args:
        session: Of ONNX Runtime, opened with ``RECORD``.
        path: The file that it was opened from.

    Returns:
        ``None`` where this version of ONNX Runtime does not tell.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    nodes = [
        node
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == CPU
        for node in part.get_nodes()
    ]
    if not nodes:
        return ()
    sizes = only_sizes(path)
    return tuple(
        f"{node.op_type} {node.name}".strip()
        for node in nodes
        if node.op_type not in _SIZES and sizes.get(node.name) != node.op_type
    )


def only_sizes(path: Path) -> Mapping[str, str]:
    """Operators, by name of the node, that read sizes and constants of a graph and nothing else.

    What is inside the body of a loop or branch is not looked at, nor what has no name.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            return {}
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _only_sizes(data)


def _only_sizes(data: Data) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for number, start, end in parts(data, 0, len(data)):
        if number != _GRAPH:
            continue
        fields = list(parts(data, start, end))
        constants = {_named(data, *place, field=8) for n, *place in fields if n == _INITIALIZER}
        values = {_named(data, *place, field=1) for n, *place in fields if n == _INPUT} - constants
        for node in (_node(data, *place) for n, *place in fields if n == _NODE):
            if _reads(node, values):
                values.update(node.gives)
            elif node.name:
                found[node.name] = node.operator
    return found


def _reads(node: _Node, values: set[str]) -> bool:
    """Whether what it gives depends on more than sizes."""
    if node.operator in _SIZES:
        return False
    if node.has_body or node.operator.startswith(("Random", "Multinomial", "Bernoulli")):
        return True
    return not values.isdisjoint(node.takes)


def _node(data: Data, start: int, end: int) -> _Node:
    texts: dict[int, list[str]] = {}
    has_body = False
    for number, first, last in parts(data, start, end):
        if number in (_TAKES, _GIVES, _NAME, _OPERATOR):
            texts.setdefault(number, []).append(data[first:last].decode("utf-8", "replace"))
        elif number == _ATTRIBUTE:
            has_body |= any(inner in _GRAPHS for inner, _, _ in parts(data, first, last))
    return _Node(
        name="".join(texts.get(_NAME, ())[-1:]),
        operator="".join(texts.get(_OPERATOR, ())[-1:]),
        takes=tuple(texts.get(_TAKES, ())),
        gives=tuple(texts.get(_GIVES, ())),
        has_body=has_body,
    )


def _named(data: Data, start: int, end: int, *, field: int) -> str:
    names: Iterator[str] = (
        data[first:last].decode("utf-8", "replace")
        for number, first, last in parts(data, start, end)
        if number == field
    )
    return next(names, "")
