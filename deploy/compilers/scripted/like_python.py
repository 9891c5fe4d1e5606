"""What torch.jit (2.13) computes otherwise than Python of numbers.

``max(nan, 1.0)`` is 1.0 there, as ``min`` is, and NaN equals itself, so that ``v != v`` finds none,
nor does ``float(x[0]) != float(x[0])``, which is read once.
``60 % n`` ends the process where ``n`` is 0.
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from edgeport.runtimes.libtorch.script_graph import nodes


def write_out(script: Any) -> None:
    """Compute it as Python does; once for each script, since maxima are turned round.

    Args:
        script: With all that it calls; nothing of it was run.
    """
    graph = script.graph
    torch._C._jit_pass_inline(graph)
    for node in list(nodes(graph)):
        if mend := _MENDS.get((node.kind(), *(each.type().kind() for each in node.inputs()))):
            mend(graph, node)


def _turned_round(graph: Any, node: Any) -> None:
    """The first of two unless the second is beyond it: of both, torch.jit asks the second."""
    first, second = node.inputs()
    node.replaceInput(0, second)
    node.replaceInput(1, first)


def _is_both_ways(graph: Any, node: Any) -> None:
    """Equal is what is no larger, and no smaller: of one value, read twice too, both are asked."""
    one, other = node.inputs()
    if one.toIValue() is None and other.toIValue() is None:
        ways = [_before(graph, node, "aten::le", *pair) for pair in ((one, other), (other, one))]
        found = _before(graph, node, "aten::__and__", *ways)
        if node.kind() == "aten::ne":
            found = _before(graph, node, "aten::__not__", found)
        node.output().replaceAllUsesWith(found)
        node.destroy()


def _raises_for_zero(graph: Any, node: Any) -> None:
    """``//`` does: of what it gives nothing is added to the divisor."""
    over, by = node.inputs()
    if by.toIValue() is None:
        graph.setInsertPoint(node)
        quotient = _before(graph, node, "aten::floordiv", over, by)
        nothing = _before(graph, node, "aten::mul", quotient, graph.insertConstant(0))
        node.replaceInput(1, _before(graph, node, "aten::add", by, nothing))


def _of_tensors(graph: Any, node: Any) -> None:
    """What ``item()`` gives may be whole; of tensors, 0 is an error then."""
    _, by = node.inputs()
    if by.toIValue() is None:
        held = [_before(graph, node, "prim::NumToTensor", each) for each in node.inputs()]
        made = _before(graph, node, "aten::remainder", *held)
        for each in (*held, made):
            each.setType(torch._C.TensorType.get())
        node.output().replaceAllUsesWith(_before(graph, node, "aten::item", made))
        node.destroy()


def _before(graph: Any, node: Any, kind: str, *inputs: Any) -> Any:
    made = graph.create(kind, [*inputs], 1)
    made.insertBefore(node)
    made.output().setType(node.output().type())
    return made.output()


_FLOATS: Final = set(itertools.product(("FloatType", "NumberType", "IntType"), repeat=2)) - {
    ("IntType", "IntType")
}
_MENDS: Final[Mapping[tuple[str, ...], Callable[[Any, Any], None]]] = {
    **{(f"prim::{name}", *kinds): _turned_round for name in ("max", "min") for kinds in _FLOATS},
    ("aten::eq", "FloatType", "FloatType"): _is_both_ways,
    ("aten::ne", "FloatType", "FloatType"): _is_both_ways,
    ("aten::remainder", "IntType", "IntType"): _raises_for_zero,
    ("aten::remainder", "IntType", "NumberType"): _of_tensors,
    ("aten::remainder", "NumberType", "IntType"): _of_tensors,
    ("aten::remainder", "NumberType", "NumberType"): _of_tensors,
}
