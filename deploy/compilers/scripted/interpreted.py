"""What torch's interpreter of scripts (2.13) computes otherwise than what stands in them.

``-n``, ``abs(n)``, ``math.floor(n)`` and ``math.ceil(n)`` of what ``item()`` gives wrap at 32 bits.
And ``mask * 1`` and ``mask + 0`` are left out, also when a trace or a file is run, so that the sum
of two masks is another mask, and no count; ``n / 1`` of a whole number is one then.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import nn

from edgeport.runtimes.libtorch.script_graph import nodes


def written_out(script: Any) -> Any:
    """The script or trace, with other operators where these are computed otherwise.

    Args:
        script: With all that it calls; nothing of it was run.
    """
    if any(_mend(node) for node in nodes(script.inlined_graph)):
        graph = script.graph
        torch._C._jit_pass_inline(graph)
        for node in list(nodes(graph)):
            if mend := _mend(node):
                graph.setInsertPoint(node)
                made = mend(_Made(graph, node), *node.inputs())
                made.setType(node.output().type())
                node.output().replaceAllUsesWith(made)
                node.destroy()
    return script


def holds_scripts(module: nn.Module) -> bool:
    """Whether eager runs a script too, with what is otherwise in it."""
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


class _Made:
    """Makes nodes in front of one, which they are for."""

    def __init__(self, graph: Any, node: Any) -> None:
        self._graph, self._node = graph, node

    def __call__(self, kind: str, *inputs: Any) -> Any:
        values = [self._graph.insertConstant(x) if isinstance(x, int) else x for x in inputs]
        made = self._graph.create(kind, values, 1)
        made.insertBefore(self._node)
        made.output().setType(self._node.output().type())
        return made.output()

    def tensor(self, kind: str, x: Any) -> Any:
        made = self(kind, x)
        made.setType(torch._C.TensorType.get())
        return made


def _negative(make: _Made, x: Any) -> Any:
    return make("aten::mul", x, -1)


def _absolute(make: _Made, x: Any) -> Any:
    return make("prim::max", x, _negative(make, x))


def _floor(make: _Made, x: Any) -> Any:
    return make("aten::Int", make.tensor("aten::floor", make.tensor("prim::NumToTensor", x)))


def _ceil(make: _Made, x: Any) -> Any:
    return make("aten::Int", make.tensor("aten::ceil", make.tensor("prim::NumToTensor", x)))


def _times_one(make: _Made, x: Any, _: Any) -> Any:
    return _negative(make, _negative(make, x))  # to the last bit


def _plus_zero(make: _Made, x: Any, zero: Any, _: Any) -> Any:
    return make("aten::add", x, zero, 2)


def _by_one(make: _Made, x: Any, _: Any) -> Any:
    return make("aten::Float", x)


_OF_NUMBERS: Final[Mapping[str, Callable[..., Any]]] = {
    "aten::neg": _negative,
    "prim::abs": _absolute,
    "aten::floor": _floor,
    "aten::ceil": _ceil,
}
_LEFT_OUT: Final[Mapping[tuple[str, str], tuple[int, Callable[..., Any]]]] = {
    ("aten::mul", "TensorType"): (1, _times_one),
    ("aten::add", "TensorType"): (0, _plus_zero),
    ("aten::div", "IntType"): (1, _by_one),
}


def _mend(node: Any) -> Callable[..., Any] | None:
    kind, inputs = node.kind(), [*node.inputs()]
    if not inputs or "Serialized " in node.sourceRange():  # eager runs a script too
        return None
    first = inputs[0].type().kind()
    if first == "NumberType" and len(inputs) == 1:
        return _OF_NUMBERS.get(kind)
    neutral, mend = _LEFT_OUT.get((kind, first), (None, None))
    if mend is None or _whole(inputs[1]) != neutral or _is_no_mask(inputs[0].type()):
        return None
    return mend


def _is_no_mask(kind: Any) -> bool:
    """Whether its dtype is known, as of a trace, and another."""
    return kind.kind() == "TensorType" and kind.scalarType() not in (None, "Bool")


def _whole(value: Any) -> int | None:
    held = value.toIValue() if value.node().kind() == "prim::Constant" else None
    if isinstance(held, torch.Tensor) and not held.dim() and held.dtype == torch.int64:
        held = int(held)  # of a trace
    return held if type(held) is int else None
