"""From TorchScript to an exported program: its graph is interpreted while torch.export watches.

Lists, tuples and numbers are plain Python then; a branch on a value becomes torch's ``cond``
operator, and a loop whose end is not known becomes its ``while_loop`` operator. Private API of
torch 2.13: it has no public way from TorchScript to an exported program, and its private
converter (``torch._export.converter``) handles neither such loops nor branches that pass on what
was computed before them.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._export.converter import _TORCH_DTYPE_TO_ENUM, get_op_overload
from torch._higher_order_ops.cond import cond_op
from torch._higher_order_ops.while_loop import while_loop_op
from torch.utils import _pytree as pytree

from edgeport.deploy.sources.source import Source

from . import program, torchscript

_Values = dict[str, Any]

_cond: Any = cond_op  # these have no types
_check: Any = torch._check

_ON_NUMBERS: Final[Mapping[str, Callable[..., Any]]] = {
    "aten::add": operator.add,
    "aten::sub": operator.sub,
    "aten::mul": operator.mul,
    "aten::div": operator.truediv,
    "aten::floordiv": operator.floordiv,
    "aten::remainder": operator.mod,
    "aten::neg": operator.neg,
    "aten::gt": operator.gt,
    "aten::ge": operator.ge,
    "aten::lt": operator.lt,
    "aten::le": operator.le,
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "prim::min": min,
    "prim::max": max,
}
"""Operators of TorchScript on numbers and lists of numbers, which torch.ops does not run."""

_PRIMITIVES: Final[Mapping[str, Callable[..., Any]]] = {
    "prim::ListConstruct": lambda *parts: [*parts],
    "prim::TupleConstruct": lambda *parts: parts,
    "prim::TupleIndex": operator.getitem,
    "prim::NumToTensor": lambda number: number,  # a size that a trace has turned to a tensor
    "prim::Uninitialized": lambda: None,
    "prim::unchecked_cast": lambda value: value,
    "prim::dtype": lambda x: _number_of(x.dtype),
    "prim::device": lambda x: x.device,
    "aten::__getitem__": operator.getitem,
    "aten::__contains__": operator.contains,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__not__": lambda x: x.logical_not() if isinstance(x, Tensor) else not x,
    "aten::Bool": lambda x: x.bool() if isinstance(x, Tensor) else x,
    "aten::Int": lambda x: x.long().item() if isinstance(x, Tensor) else _whole(x),
    "aten::Float": lambda x: x.double().item() if isinstance(x, Tensor) else float(x),
    "aten::len": len,
    "aten::dim": lambda x: x.dim(),
    "aten::numel": lambda x: x.numel(),
    "aten::format": lambda text, *parts: text.format(*parts),
    "aten::append": lambda parts, part: parts.append(part),
}


def convert(source: Source) -> torch.export.ExportedProgram:
    """Script a module, and capture what the script does.

    Raises:
        Exception: Whatever torch.jit and torch.export raise.
    """
    scripted: Any = torch.jit.freeze(torchscript.scripted(source, source.flat))
    return torch.export.export(
        _Interpreter(scripted.graph),
        source.roomy_tensors(),
        dynamic_shapes=(program.dynamic_shapes(source),),
        strict=False,
    )


class _Interpreter(nn.Module):
    """Runs the graph of a frozen script."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self.training = False
        self._graph = graph
        self._buffer_of: dict[str, str] = {}
        for node in _all_nodes(graph):
            if node.kind() == "prim::Constant" and isinstance(value := _constant(node), Tensor):
                name = f"constant_{len(self._buffer_of)}"
                self.register_buffer(name, value.detach())
                self._buffer_of[node.output().debugName()] = name

    def forward(self, *inputs: Tensor) -> Any:
        """Run it on tensors."""
        values: _Values = {name: getattr(self, buffer) for name, buffer in self._buffer_of.items()}
        names = [value.debugName() for value in self._graph.inputs()]
        values.update(zip(names[1:], inputs, strict=True))  # the first is the module
        (result,) = self._run(self._graph, values)
        return result

    def _run(self, block: Any, values: _Values) -> list[Any]:
        for node in block.nodes():
            self._step(node, values)
        return [values[output.debugName()] for output in block.outputs()]

    def _step(self, node: Any, values: _Values) -> None:
        names = [output.debugName() for output in node.outputs()]
        kind = node.kind()
        if kind == "prim::Constant":
            if names[0] not in self._buffer_of:
                values[names[0]] = _constant(node)
            return
        args = [values[value.debugName()] for value in node.inputs()]
        if kind == "prim::If":
            results: Sequence[Any] = self._branch(node, args[0], values)
        elif kind == "prim::Loop":
            results = self._loop(node, args, values)
        elif kind in ("prim::TupleUnpack", "prim::ListUnpack"):
            results = args[0]
        else:
            result = _computed(node, args)
            results = [result] if len(names) == 1 else result or ()
        values.update(zip(names, results, strict=True))

    def _branch(self, node: Any, chosen: Any, values: _Values) -> Sequence[Any]:
        blocks = [*node.blocks()]
        if isinstance(chosen, bool):
            return self._run(blocks[not chosen], values)
        outer = _Outer(node, values)
        specs: list[Any] = []

        def taking(block: Any) -> Callable[..., tuple[Any, ...]]:
            def run(*operands: Any) -> tuple[Any, ...]:
                leaves, spec = pytree.tree_flatten(self._run(block, outer.inside(operands)))
                specs.append(spec)
                return tuple(map(_fresh, leaves))

            return run

        leaves = _cond(chosen, *map(taking, blocks), outer.operands)
        if any(spec != specs[0] for spec in specs):
            raise NotImplementedError("the sides of a branch differ in what they compute")
        found: list[Any] = pytree.tree_unflatten(leaves, specs[0])
        return found

    def _loop(self, node: Any, args: Sequence[Any], values: _Values) -> Sequence[Any]:
        (block,) = node.blocks()
        names = [value.debugName() for value in block.inputs()]
        count, goes_on, *carried = args
        turn = 0
        while isinstance(count, int) and isinstance(goes_on, bool):  # its end is known
            if turn >= count or not goes_on:
                return carried
            values.update(zip(names, (turn, *carried), strict=True))
            goes_on, *carried = self._run(block, values)
            turn += 1
        return self._while(node, (turn, goes_on), carried, values)

    def _while(
        self, node: Any, state: tuple[int, Any], carried: Sequence[Any], values: _Values
    ) -> Sequence[Any]:
        (block,) = node.blocks()
        names = [value.debugName() for value in block.inputs()]
        turn, goes_on = state
        count_name = node.inputsAt(0).debugName()
        outer = _Outer(node, values, count_name)
        leaves, spec = pytree.tree_flatten([*carried])
        start = (torch.full((), turn), _truth(goes_on), *map(_fresh, leaves))

        def again(turn: Tensor, goes_on: Tensor, *rest: Any) -> Any:
            return (turn < outer.inside(rest[len(leaves) :])[count_name]) & goes_on

        def body(turn: Tensor, goes_on: Tensor, *rest: Any) -> tuple[Any, ...]:
            inside = outer.inside(rest[len(leaves) :])
            number = turn.item()
            _check(number >= 0)
            _check(number < inside[count_name])
            before = pytree.tree_unflatten(rest[: len(leaves)], spec)
            inside.update(zip(names, (number, *before), strict=True))
            goes_on, *after = self._run(block, inside)
            flat, after_spec = pytree.tree_flatten(after)
            if after_spec != spec:
                raise NotImplementedError("a loop changes the kind of what it carries")
            return turn + 1, _truth(goes_on), *map(_fresh, flat)

        loop: Any = while_loop_op
        _, _, *ends = loop(again, body, start, outer.operands)
        found: list[Any] = pytree.tree_unflatten(ends, spec)
        return found


class _Outer:
    """What the blocks of a node use from outside: their operands, and the rest as it is."""

    def __init__(self, node: Any, values: _Values, *more: str) -> None:
        self._values = values
        self._names = sorted({name for name in (*_used(node), *more) if name in values})
        self._leaves, self._spec = pytree.tree_flatten([values[name] for name in self._names])
        self._places = [
            place
            for place, leaf in enumerate(self._leaves)
            if isinstance(leaf, Tensor | torch.SymInt)
        ]
        self.operands = tuple(self._leaves[place] for place in self._places)

    def inside(self, operands: Sequence[Any]) -> _Values:
        """Values for one block, with the operands that the operator passes to it."""
        leaves = [*self._leaves]
        for place, operand in zip(self._places, operands, strict=True):
            leaves[place] = operand
        found: list[Any] = pytree.tree_unflatten(leaves, self._spec)
        return {**self._values, **dict(zip(self._names, found, strict=True))}


def _computed(node: Any, args: Sequence[Any]) -> Any:
    kind = node.kind()
    if kind in _PRIMITIVES:
        return _PRIMITIVES[kind](*args)
    if kind == "prim::RaiseException":
        raise RuntimeError(f"forward raises {args[0]}")
    if kind in _ON_NUMBERS and not any(isinstance(arg, Tensor) for arg in args):
        return _ON_NUMBERS[kind](*args)
    if kind == "aten::size" and len(args) == 1:
        return [*args[0].shape]
    overload: Any = get_op_overload(node)
    pairs = [*zip(overload._schema.arguments, args, strict=False)]
    return overload(
        *(value for argument, value in pairs if not argument.kwarg_only),
        **{argument.name: value for argument, value in pairs if argument.kwarg_only},
    )


def _constant(node: Any) -> Any:
    return node.output().toIValue()


def _all_nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _all_nodes(inner)


def _used(node: Any) -> Iterator[str]:
    """Values that the blocks of a node mention."""
    for block in node.blocks():
        yield from (output.debugName() for output in block.outputs())
        for inner in _all_nodes(block):
            if inner.kind() == "aten::append":
                raise NotImplementedError("a list grows within a branch or loop")
            yield from (value.debugName() for value in (*inner.inputs(), *inner.outputs()))
            for deeper in inner.blocks():
                yield from (output.debugName() for output in deeper.outputs())


def _fresh(leaf: Any) -> Any:
    """The operators allow no output that is an input."""
    if isinstance(leaf, bool):
        return torch.full((), leaf)
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _truth(goes_on: Any) -> Tensor:
    return goes_on.clone() if isinstance(goes_on, Tensor) else torch.full((), bool(goes_on))


def _whole(number: Any) -> Any:
    return int(number) if isinstance(number, float | bool) else number  # a symbol stays one


def _number_of(dtype: torch.dtype) -> int:
    found: int = _TORCH_DTYPE_TO_ENUM[dtype]
    return found
