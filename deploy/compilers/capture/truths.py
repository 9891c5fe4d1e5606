"""What forward asks of a tensor, ``if x.max() > 1``, is asked of that tensor in the program.

Torch makes a number of it, asserts which one, and what keeps the condition makes a tensor again.
"""

from collections import defaultdict
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node

from edgeport.deploy.compilers.operators import fx_nodes

_aten: Any = torch.ops.aten  # operators are made on demand: no types
_choose: Any = torch.sym_ite  # these have none either


def kept_as_tensors(captured: ExportedProgram) -> None:
    """Leave out, in place, the numbers between a truth and what asks for it."""
    for part in fx_nodes.parts(captured.graph_module):
        asking: dict[Node, list[Node]] = defaultdict(list)
        for node in part.graph.find_nodes(op="call_function", target=_aten.eq.Scalar):
            if (number := _number_of(*node.args)) is not None:
                asking[number].append(node)
        for number, nodes in asking.items():
            _ask_tensor(part.graph, number, nodes)
        part.graph.eliminate_dead_code()
        part.recompile()


def _number_of(full: Any, to: Any) -> Node | None:
    """The number of a truth that is compared with 0 or 1, where it is a tensor again."""
    if not _is(full, _aten.full.default) or full.args[0] or to not in (0, 1):
        return None
    choice: Any = full.args[1]
    if not _is(choice, _choose) or choice.args[1:] != (1, 0):
        return None
    number: Any = choice.args[0]
    is_truth = _is(number, _aten.item.default) and number.args[0].meta["val"].dtype is torch.bool
    return number if is_truth else None


def _is(node: Any, target: Any) -> bool:
    return isinstance(node, Node) and node.target is target


def _ask_tensor(graph: Graph, number: Node, asking: list[Node]) -> None:
    """What torch asserts of the number goes with it, if nothing else hangs on it."""
    truth = number.args[0]
    for node in asking:
        with graph.inserting_before(node):
            node.replace_all_uses_with(_compared(truth, to=node.args[1]))
        graph.erase_node(node)
    graph.eliminate_dead_code()
    hanging = _hanging_on(number)
    asserted = [node for node in hanging if _is(node, _aten._assert_scalar.default)]
    computed = [node for node in hanging if not node.users and node not in asserted]
    alone = {number, *hanging}
    if not computed and all(alone.issuperset(node.all_input_nodes) for node in hanging):
        for node in asserted:
            graph.erase_node(node)


def _hanging_on(number: Node) -> list[Node]:
    found: dict[Node, None] = {}
    rest = [*number.users]
    while rest:
        node = rest.pop()
        if node not in found:
            found[node] = None
            rest += node.users
    return [*found]


def _compared(truth: Any, *, to: Any) -> Node:
    if truth.meta["val"].dim():
        truth = _made(truth, _aten.reshape.default, [])
    return truth if to else _made(truth, _aten.logical_not.default)


def _made(truth: Node, operator: Any, *given: Any) -> Node:
    made = truth.graph.call_function(operator, (truth, *given))
    made.meta["val"] = truth.meta["val"].new_empty(())
    return made
