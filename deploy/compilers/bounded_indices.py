"""Indices of native code that are beyond their table: refused before the loops, not within.

Inductor checks each index where it is used (torch 2.13), in a loop that OpenMP shares between
threads. An error cannot leave such a loop: it ends the process, whoever's id it was. Where it
writes, it checks less: what is scattered below 0 is passed over.
"""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch.export.graph_signature import InputKind
from torch.fx import Graph, Node

from edgeport.runtimes.run_failures import INDEX

_ATEN: Final = torch.ops.aten

_ALONG: Final = {
    _ATEN.gather.default, _ATEN.index_select.default, _ATEN.index_add.default,
    _ATEN.index_copy.default, _ATEN.scatter.src, _ATEN.scatter.value, _ATEN.scatter_add.default,
    _ATEN.scatter_reduce.two,
}  # fmt: skip
"""Operators of a table, an axis and an index, which may not be below 0."""

_BY_AXES: Final = {_ATEN.index.Tensor, _ATEN.index_put.default}
"""Of a table and an index for each of its axes, which may count from the end."""


def bound(program: torch.export.ExportedProgram) -> None:
    """Ask of whole tensors whether all indices are in their table, and look up none that is not.

    Of those that hang on no input it is known.
    """
    graph = program.graph_module.graph
    hanging = _hanging(program)
    for node in list(graph.nodes):
        with graph.inserting_before(node):
            if node.target is _ATEN.embedding.default and node.args[1] in hanging:
                node.update_arg(1, _within(graph, node.args[0], 0, node.args[1]))
            elif node.target in _ALONG and node.args[2] in hanging:
                node.update_arg(2, _within(graph, node.args[0], node.args[1], node.args[2]))
            elif node.target in _BY_AXES:
                node.update_arg(1, [*_of_axes(graph, node.args[0], node.args[1], hanging)])
    program.graph_module.recompile()


def _hanging(program: torch.export.ExportedProgram) -> set[Any]:
    """The tensors that are computed of inputs."""
    specs = program.graph_signature.input_specs
    given = {spec.arg.name for spec in specs if spec.kind is InputKind.USER_INPUT}
    found: set[Any] = set()
    for node in program.graph_module.graph.nodes:
        if node.op == "placeholder":
            found |= {node} if node.name in given else set()
        elif not found.isdisjoint(node.all_input_nodes) and not _is_size(node):
            found.add(node)
    return found


def _is_size(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt | torch.SymBool | torch.SymFloat)


def _of_axes(graph: Graph, table: Any, indices: Sequence[Any], hanging: set[Any]) -> Iterator[Any]:
    masks = any(each is not None and not _is_index(each) for each in indices)
    for axis, index in enumerate(indices):
        plain = masks or index is None or index not in hanging
        yield index if plain else _within(graph, table, axis, index, from_end=True)


def _is_index(node: Any) -> bool:
    return node.meta["val"].dtype in (torch.int32, torch.int64)


def _within(graph: Graph, table: Any, axis: int, index: Any, *, from_end: bool = False) -> Node:
    size: Any = table.meta["val"].shape[axis]
    if not isinstance(size, int):
        size = graph.call_function(_ATEN.sym_size.int, (table, axis))
    most, least = _of(graph, operator.sub, size, 1), 0
    if from_end:
        least = _of(graph, operator.mul, size, -1)
    above = graph.call_function(_ATEN.ge.Scalar, (index, least))
    below = graph.call_function(_ATEN.le.Scalar, (index, most))
    both = graph.call_function(_ATEN.logical_and.default, (above, below))
    fits = graph.call_function(_ATEN.all.default, (both,))
    graph.call_function(_ATEN._assert_async.msg, (fits, INDEX))
    return graph.call_function(_ATEN.clamp.default, (index, least, most))


def _of(graph: Graph, function: Any, size: Any, number: int) -> Any:
    known = isinstance(size, int)
    return function(size, number) if known else graph.call_function(function, (size, number))
