"""Which nodes of a graph ONNX Runtime put on the CPU although another provider was asked for.

A node that only computes with sizes (``Shape`` and what follows from it) belongs there: a GPU
needs sizes on the CPU to plan its work, and ONNX Runtime moves such nodes on purpose. Whether a
node reads more than sizes, the file tells; what ONNX Runtime made itself is taken to do so, but
for the sizes of what is transposed.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgeport.runtimes.formats.protobuf import Data, parts

CPU: Final = "CPUExecutionProvider"

RECORD: Final = "session.record_ep_graph_assignment_info"
"""An entry of the session's settings, so that ``on_cpu`` has something to read. ONNX Runtime
1.24 and later."""

_SIZES: Final = ("Shape", "Size")

_GRAPH, _NODE, _INPUT = 7, 1, 11  # fields of ModelProto and GraphProto; initialisers may be inputs
_INITIALIZER: Final = 5
_TAKES, _GIVES, _NAME, _OPERATOR, _ATTRIBUTE = 1, 2, 3, 4, 5  # of NodeProto
_GRAPHS: Final = (6, 11)  # of AttributeProto: a graph, graphs

_MADE: Final = re.compile(r"Gather(_token_\d+)?")
"""How ONNX Runtime names a ``Gather`` that its optimiser of transpositions puts in (1.31)."""


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    operator: str
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    bodies: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Sizes:
    """What a file says about the nodes that compute with sizes alone.

    Attributes:
        nodes: Their operators, by name.
        others: The names of all other nodes.
        transposes: Whether there is a ``Transpose``. Where ONNX Runtime moves one behind what asks
            for sizes, it puts those in order with a ``Gather`` of its own.
    """

    nodes: dict[str, str] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    transposes: bool = False

    def knows(self, operator: str, name: str) -> bool:
        """Whether a node is one of them."""
        if operator in _SIZES:
            return True
        if name in self.others:
            return False
        made = self.transposes and operator == "Gather" and _MADE.fullmatch(name) is not None
        return made or self.nodes.get(name) == operator


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
    sizes = read_sizes(path)
    return tuple(
        f"{node.op_type} {node.name}".strip()
        for node in nodes
        if not sizes.knows(node.op_type, node.name)
    )


def read_sizes(path: Path) -> Sizes:
    """Find the nodes that read sizes and constants of a graph and nothing else.

    What has no name is not among them.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            return Sizes()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = Sizes()
            for number, start, end in parts(data, 0, len(data)):
                if number == _GRAPH:
                    _add(found, data, start, end, frozenset())
            return found


def _add(found: Sizes, data: Data, start: int, end: int, outer: Set[str]) -> None:
    """Look at a graph, or at the body of a loop or branch, which reads values around it too."""
    fields = list(parts(data, start, end))
    constants = {_named(data, *place, field=8) for n, *place in fields if n == _INITIALIZER}
    inputs = {_named(data, *place, field=1) for n, *place in fields if n == _INPUT}
    values = {*(outer - constants), *(inputs - constants)}
    for node in (_node(data, *place) for n, *place in fields if n == _NODE):
        found.transposes |= node.operator == "Transpose"
        for body in node.bodies:
            _add(found, data, *body, values)
        if _reads(node, values):
            values.update(node.gives)
            found.others.add(node.name)
        elif node.name:
            found.nodes[node.name] = node.operator


def _reads(node: _Node, values: set[str]) -> bool:
    """Whether what it gives depends on more than sizes."""
    if node.operator in _SIZES:
        return False
    if node.bodies or node.operator.startswith(("Random", "Multinomial", "Bernoulli")):
        return True
    return not values.isdisjoint(node.takes)


def _node(data: Data, start: int, end: int) -> _Node:
    texts: dict[int, list[str]] = {}
    bodies: list[tuple[int, int]] = []
    for number, first, last in parts(data, start, end):
        if number in (_TAKES, _GIVES, _NAME, _OPERATOR):
            texts.setdefault(number, []).append(data[first:last].decode("utf-8", "replace"))
        elif number == _ATTRIBUTE:
            bodies += [
                (start, end) for inner, start, end in parts(data, first, last) if inner in _GRAPHS
            ]
    return _Node(
        name="".join(texts.get(_NAME, ())[-1:]),
        operator="".join(texts.get(_OPERATOR, ())[-1:]),
        takes=tuple(texts.get(_TAKES, ())),
        gives=tuple(texts.get(_GIVES, ())),
        bodies=tuple(bodies),
    )


def _named(data: Data, start: int, end: int, *, field: int) -> str:
    names: Iterator[str] = (
        data[first:last].decode("utf-8", "replace")
        for number, first, last in parts(data, start, end)
        if number == field
    )
    return next(names, "")
