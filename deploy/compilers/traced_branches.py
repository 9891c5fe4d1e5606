"""Branches of a program, as a trace keeps them: it has control flow where it calls a script.

Both sides are traced, with what the example has at that place; the script chooses one. On the side
that the example does not take, what the program asks of values does not hold: while sides are
traced, no answer is too bad.
"""

import operator
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

_cond: Final[Any] = torch.ops.higher_order.cond  # operators are made on demand: no types
_scripted: Final[Any] = torch.jit.script  # torch.jit has none


def keep_branches(module: GraphModule, inputs: Sequence[Tensor]) -> None:
    """Put scripts in the places of branches.

    Args:
        module: A program whose operators a trace follows; it is changed.
        inputs: The example.

    Raises:
        Exception: Whatever torch.jit raises, or a side on what it would not be given.
    """
    module.register_buffer(_LENIENT, torch.tensor(False))
    with module.graph.inserting_before():
        lenient = module.graph.get_attr(_LENIENT)
    _pass_on(lenient)
    if module.graph.find_nodes(op="call_function", target=_cond):
        _Keeping(module, lenient).run(*inputs)
    _finish(module)


_LENIENT: Final = "lenient"


def only_if(x: Tensor, holds: Tensor, lenient: Tensor) -> Tensor:
    """The same tensor if a condition holds: the translation of ``one_way.ONLY_IF``."""
    found: Tensor = _scripted(_checked)(x, holds, lenient)
    return found


def _checked(x: Tensor, holds: Tensor, lenient: Tensor) -> Tensor:
    if not bool(holds) and not bool(lenient):
        raise RuntimeError("another way through forward than the file has")  # scripts: no globals
    return x


def _pass_on(lenient: Node) -> None:
    for node in lenient.graph.find_nodes(op="call_function", target=only_if):
        node.args = (*node.args, lenient)


def _finish(module: GraphModule) -> None:
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()


class _Keeping(Interpreter):
    """Runs a program, and makes a script of each branch with what it is given.

    Args:
        module: The program.
        lenient: The node that says whether no answer is too bad.
    """

    def __init__(self, module: GraphModule, lenient: Node) -> None:
        super().__init__(module, garbage_collect_values=False)
        self._part = module
        self._lenient = lenient

    def run_node(self, n: Node) -> Any:
        """Run it, or what stands in its place now."""
        if n.target is not _cond:
            return super().run_node(n)
        given: Any = n.args  # its types say that there may be anything
        condition, one, other, operands = given
        values = [_as_tensor(self.env.get(each, each)) for each in operands]
        sides = [getattr(self._part, side.target) for side in (one, other)]
        is_one = isinstance(sides[0].graph.output_node().args[0], Node)
        script = _scripted(_Branch(*(_traced(side, values) for side in sides)))
        name = f"branch_{n.name}"
        self._part.add_submodule(name, script)
        with n.graph.inserting_before(n):
            made = [n.graph.call_function(_as_tensor, (each,)) for each in (condition, *operands)]
            call = n.graph.call_module(name, (made[0], made[1:], self._lenient))
            found = n.graph.call_function(operator.getitem, (call, 0)) if is_one else call
        n.replace_all_uses_with(found)
        self.env[call] = script(_as_tensor(self.env[condition]), values, torch.tensor(True))
        self.env[found] = self.env[call][0] if is_one else self.env[call]
        return self.env[found]


class _Side(nn.Module):
    """A side of a branch.

    Args:
        module: It.
    """

    def __init__(self, module: GraphModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, operands: list[Tensor], lenient: Tensor) -> list[Tensor]:
        found = self.module(*operands, lenient)
        return [*map(_as_tensor, [found] if isinstance(found, Tensor) else found)]


class _Branch(nn.Module):
    """Takes one of two sides.

    Args:
        one: Where the condition holds.
        other: Where it does not.
    """

    def __init__(self, one: Any, other: Any) -> None:
        super().__init__()
        self.one = one
        self.other = other

    def forward(self, holds: Tensor, operands: list[Tensor], lenient: Tensor) -> list[Tensor]:
        if bool(holds):
            found: list[Tensor] = self.one(operands, lenient)
        else:
            found = self.other(operands, lenient)
        return found


def _traced(side: GraphModule, operands: list[Tensor]) -> Any:
    graph = side.graph
    first = next(node for node in graph.nodes if node.op != "placeholder")
    with graph.inserting_before(first):
        lenient = graph.placeholder(_LENIENT)
    _pass_on(lenient)
    yes = torch.tensor(True)
    _Keeping(side, lenient).run(*operands, yes)
    _finish(side)
    return torch.jit.trace(  # type: ignore[no-untyped-call]  # torch.jit has no types
        _Side(side), (operands, yes), check_trace=False, strict=False
    )


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
