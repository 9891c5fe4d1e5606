"""From TorchScript to an exported program: its graph is interpreted while torch.export watches.

Lists, tuples and numbers are plain Python then; a branch on a value becomes torch's ``cond``
operator, and a loop whose end is not known becomes its ``while_loop`` operator, and a list that
grows in it one tensor. Private API of torch 2.13: it has no public way from TorchScript to an
exported program, and its private converter (``torch._export.converter``) handles neither such
loops nor branches that pass on what was computed before them.
"""

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from types import FunctionType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch._higher_order_ops.cond import cond_op
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils import _pytree as pytree

from edgeport.deploy.origins import origin
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.libtorch.script_graph import nodes

from . import program, torchscript
from .script_blocks import (
    always_goes_on,
    counted_to,
    lists_grown,
    names_used,
    names_written,
)
from .script_numbers import truth
from .script_operators import Grown, computed, constant
from .script_writes import Writes

_Values = dict[str, Any]

_cond: Any = cond_op  # these have no types
_check: Any = torch._check
_full: Any = torch.full
_assert: Any = torch.ops.aten._assert_async.msg


def convert(source: Source) -> torch.export.ExportedProgram:
    """Script a module, and capture what the script does.

    Raises:
        Exception: Whatever torch.jit and torch.export raise.
    """
    return _converted(source, torchscript.scripted(source, source.flat))


def convert_trace(source: Source) -> torch.export.ExportedProgram:
    """Trace a module, and capture what it did: one way, and numbers as they were.

    Raises:
        Exception: Whatever torch.jit and torch.export raise.
    """
    return _converted(source, torchscript.traced(source, source.flat))


def _converted(source: Source, script: Any) -> torch.export.ExportedProgram:
    frozen: Any = torch.jit.freeze(script)
    with program.free_kernels(), program.free_writes():
        made = torch.export.export(
            _Interpreter(frozen.graph),
            source.roomy_tensors(),
            dynamic_shapes=(program.dynamic_shapes(source),),
            strict=False,
        )
    program.check_questions(source, made)
    return made


def _at_its_line(node: Any) -> Callable[..., None]:
    """A function that takes a step where the user's code does, as a stack trace tells it."""
    told = node.sourceRange()
    found = _SCRIPT_FRAME.findall(told)[:1] or _TRACE_FRAME.findall(told)  # innermost first
    if not found:
        return _take
    file, line = min(found, key=lambda frame: origin(frame[0]))  # the first of equals
    return _framed(file, int(line))


def _take(step: Callable[[Any, _Values], None], node: Any, values: _Values) -> None:
    step(node, values)


@functools.cache
def _framed(file: str, line: int) -> FunctionType:
    """By the name that torch.export looks for in a trace; its step is on its second line."""
    code = _take.__code__
    named = code.replace(co_filename=file, co_firstlineno=line - 1, co_name="forward")
    return FunctionType(named, {})


_SCRIPT_FRAME: Final = re.compile(r'File "([^"]+)", line (\d+)')
_TRACE_FRAME: Final = re.compile(r"^(.+)\((\d+)\): ", re.MULTILINE)


class _Interpreter(nn.Module):
    """Runs the graph of a frozen script."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self.training = False
        self._graph = graph
        self._writes = Writes(graph)
        self._buffer_of: dict[str, str] = {}
        for node in nodes(graph):
            if node.kind() == "prim::Constant" and isinstance(value := constant(node), Tensor):
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
            _at_its_line(node)(self._step, node, values)
        return [values[output.debugName()] for output in block.outputs()]

    def _step(self, node: Any, values: _Values) -> None:
        names = [output.debugName() for output in node.outputs()]
        kind = node.kind()
        if kind == "prim::Constant":
            if names[0] not in self._buffer_of:
                values[names[0]] = constant(node)
            return
        if kind in ("prim::GetAttr", "prim::SetAttr"):
            if kind == "prim::GetAttr" and node.output().type().kind() == "ClassType":
                return  # a module, on the way to what it holds
            raise NotImplementedError(f"forward keeps {node.s('name')!r} from call to call")
        args = [values[value.debugName()] for value in node.inputs()]
        if kind == "prim::If":
            results: Sequence[Any] = self._branch(node, args[0], values)
        elif kind == "prim::Loop":
            results = self._loop(node, args, values)
        elif kind in ("prim::TupleUnpack", "prim::ListUnpack"):
            results = args[0]
        else:
            result = computed(node, args)
            if isinstance(result, Tensor) and node.output().type().kind() == "IntType":
                result = result.long().item()  # of floor, ceil and round
            if isinstance(result, Grown):
                self._writes.check_parts(node)
            results = [result] if len(names) == 1 else result or ()
        values.update(zip(names, results, strict=True))

    def _branch(self, node: Any, chosen: Any, values: _Values) -> Sequence[Any]:
        blocks = [*node.blocks()]
        if any(block.findNode("prim::RaiseException") for block in blocks):
            chosen = _known(chosen)
        if isinstance(chosen, bool):
            return self._run(blocks[not chosen], values)
        if going_on := _without_raise(blocks):
            is_first = going_on is blocks[0]  # a .pt2 raises too; ONNX has nothing that does
            _assert(_fresh(chosen) == is_first, "forward raises")
            return self._run(going_on, values)
        self._writes.check_results(node)
        outer = _Outer(node, values)
        written = names_written(node, values)
        specs: list[Any] = []
        makes_whole = _makes_whole(node)

        def taking(block: Any, other: Any) -> Callable[..., tuple[Any, ...]]:
            absent = _never_read(block)
            told = self._told(other, values, written) if absent else ()

            def run(*operands: Any) -> tuple[Any, ...]:
                inside = outer.inside(operands)
                inside.update({name: inside[name].clone() for name in written})
                results = self._run(block, inside)
                for place in absent:
                    results[place] = _any_like(told[place])
                pairs = zip(results, makes_whole, strict=True)
                results = [_as_tensor(each) if is_made else each for each, is_made in pairs]
                leaves, spec = pytree.tree_flatten([*results, *map(inside.get, written)])
                specs.append(spec)
                return tuple(map(_fresh, leaves))

            return run

        sides = map(taking, blocks, reversed(blocks))
        leaves = _cond(chosen, *sides, outer.operands)
        if any(spec != specs[0] for spec in specs):
            raise NotImplementedError("the sides of a branch differ in what they compute")
        found: list[Any] = pytree.tree_unflatten(leaves, specs[0])
        for name in reversed(written):
            values[name].copy_(found.pop())
        return _with_numbers(found, makes_whole)

    def _told(self, block: Any, values: _Values, written: Sequence[str]) -> Sequence[Any]:
        """Of what kind and shape a side of a branch gives what the other does not."""
        inside = {**values, **{name: values[name].clone() for name in written}}
        symbols = _symbols(values)
        with (
            disable_proxy_modes_tracing(),
            symbols.suppress_guards(),
            symbols.ignore_fresh_unbacked_symbols(),
        ):
            return self._run(block, inside)

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
        if turn == 0 and goes_on is True and _begins_with_none(carried, count):
            values.update(zip(names, (turn, *carried), strict=True))
            goes_on, *carried = self._run(block, values)  # gives the next a tensor in its place
            turn += 1
        return self._while(node, (turn, goes_on), carried, values)

    def _while(
        self, node: Any, state: tuple[int, Any], carried: Sequence[Any], values: _Values
    ) -> Sequence[Any]:
        self._writes.check_results(node)
        (block,) = node.blocks()
        names = [value.debugName() for value in block.inputs()]
        turn, goes_on = state
        count_name = node.inputsAt(0).debugName()
        turns: Any = None  # at most
        if always_goes_on(block):
            is_counted = goes_on is True and type(values[count_name]) is torch.SymInt
            turns = values[count_name] - turn if is_counted else None
        elif (counted := counted_to(node)) is not None:
            turns = values[counted[1]] - carried[counted[0]]
        grows = () if turns is None else lists_grown(block)
        written = names_written(node, values, grows)
        outer = _Outer(node, values, count_name, without=(*grows, *written))
        absent = [place for place, given in enumerate(node.inputs(), -2) if _is_absent(given)]
        if absent:  # a return in the loop has not been met yet
            at_start = {**values, **dict(zip(names, (turn, *carried), strict=True))}
            told = self._told(block, at_start, written)[1:]
            carried = [_any_like(told[i]) if i in absent else v for i, v in enumerate(carried)]
        held = {**values, **dict(zip(names[1:], carried, strict=True))}
        carried = _emptied(names, carried, grows)
        rooms = self._empty(block, names, (turn, *carried), turns, values, grows)
        carried = [*carried, *rooms, *map(values.get, written)]
        leaves, spec = pytree.tree_flatten(carried)
        are_whole = [type(leaf) in (int, torch.SymInt) for leaf in leaves]
        first = turn
        start = (torch.full((), turn), _truth(goes_on), *map(_as_tensor, leaves))

        def again(turn: Tensor, goes_on: Tensor, *rest: Any) -> Any:
            return (turn < outer.inside(rest[len(leaves) :])[count_name]) & goes_on

        def body(turn: Tensor, goes_on: Tensor, *rest: Any) -> tuple[Any, ...]:
            inside = outer.inside(rest[len(leaves) :])
            number = turn.item()
            _check(number >= 0)
            _check(number < inside[count_name])
            held = _with_numbers(rest[: len(leaves)], are_whole)
            before = iter(pytree.tree_unflatten(held, spec))
            state = pytree.tree_map(_own, [*islice(before, len(names) - 1)])
            inside.update(zip(names, (number, *state), strict=True))
            inside.update({name: [] for name in grows})
            rooms = [*islice(before, len(grows))]
            inside.update(zip(written, map(_own, before), strict=True))
            goes_on, *after = self._run(block, inside)
            after = _emptied(names, after, grows)
            for name, room in zip(grows, rooms, strict=True):
                (part,) = inside[name]
                place = (turn - first).reshape(1)
                after.append(room.index_copy(0, place, part.unsqueeze(0)))
            after += map(inside.get, written)
            flat, after_spec = pytree.tree_flatten(after)
            if after_spec != spec:
                raise NotImplementedError("a loop changes the kind of what it carries")
            return turn + 1, _truth(goes_on), *map(_as_tensor, flat)

        loop: Any = while_loop_op
        turned, _, *ends = loop(again, body, start, outer.operands)
        found: list[Any] = pytree.tree_unflatten(_with_numbers(ends, are_whole), spec)
        for name in reversed(written):
            values[name].copy_(found.pop())
        filled = [found.pop() for _ in grows]
        if grows and not always_goes_on(block):
            filled = _begun(filled, turned - first, turns)
        grown = {name: Grown(held[name], filled.pop()) for name in grows}
        values.update(grown)
        return [grown.get(name, value) for name, value in zip(names[1:], found, strict=True)]

    def _empty(
        self,
        block: Any,
        names: Sequence[str],
        state: Sequence[Any],
        turns: Any,
        values: _Values,
        grows: Sequence[str],
    ) -> Iterator[Tensor]:
        """Room for what each list will hold; a turn tells of what shape, and is thrown away."""
        if not grows:
            return
        inside = {**values, **dict(zip(names, state, strict=True))}
        inside.update({name: [] for name in grows})
        symbols = _symbols(values)
        with disable_proxy_modes_tracing(), symbols.suppress_guards():
            self._run(block, inside)
        for name in grows:
            (part,) = inside[name]
            room: Any = (turns, *part.shape)  # its types know no free sizes
            yield torch.zeros(room, dtype=part.dtype, device=part.device)


class _Outer:
    """What the blocks of a node use from outside: their operands, and the rest as it is."""

    def __init__(self, node: Any, values: _Values, *more: str, without: Sequence[str] = ()) -> None:
        self._values = values
        used = {*names_used(node, without), *more} - {*without}
        self._names = sorted(name for name in used if name in values)
        self._leaves, self._spec = pytree.tree_flatten([values[name] for name in self._names])
        self._places = [
            place
            for place, leaf in enumerate(self._leaves)
            if isinstance(leaf, Tensor | torch.SymInt | torch.SymFloat)
        ]
        self.operands = tuple(_apart([self._leaves[place] for place in self._places]))

    def inside(self, operands: Sequence[Any]) -> _Values:
        """Values for one block, with the operands that the operator passes to it."""
        leaves = [*self._leaves]
        for place, operand in zip(self._places, operands, strict=True):
            leaves[place] = operand
        found: list[Any] = pytree.tree_unflatten(leaves, self._spec)
        return {**self._values, **dict(zip(self._names, found, strict=True))}


def _known(chosen: Any) -> Any:
    """Answer what all sizes answer alike, as what GroupNorm asks before it raises.

    torch takes a size for more than 0 whatever its range says (2.13): where both ways go on, both
    are kept.
    """
    if isinstance(chosen, torch.SymBool):
        return next((way for way in (True, False) if statically_known_true(chosen == way)), chosen)
    return chosen


def _without_raise(blocks: Sequence[Any]) -> Any:
    """The block that goes on, where the other one does nothing but raise."""
    going_on = [block for block in blocks if not any(map(_raises, block.nodes()))]
    return going_on[0] if len(going_on) == 1 else None


def _raises(node: Any) -> bool:
    return bool(node.kind() == "prim::RaiseException")


def _begins_with_none(carried: Sequence[Any], count: Any) -> bool:
    """Whether a loop of one turn or more begins with a variable that has no tensor yet."""
    is_some = isinstance(count, torch.SymInt) and statically_known_true(count >= 1)
    return is_some and any(value is None for value in carried)


def _emptied(names: Sequence[str], carried: Sequence[Any], grows: Sequence[str]) -> list[Any]:
    """What a turn carries to the next, where lists that grow go another way."""
    return [[] if name in grows else v for name, v in zip(names[1:], carried, strict=True)]


def _fresh(leaf: Any) -> Any:
    """The operators allow no output that is an input."""
    if isinstance(leaf, bool):
        return torch.full((), leaf)
    if isinstance(leaf, float | torch.SymFloat):
        return _full((), leaf, dtype=torch.float64)
    if isinstance(leaf, torch.SymBool):  # of ``n > 4 and n % 2 == 0``, whose other side is a bool
        return truth(leaf)
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _as_tensor(leaf: Any) -> Any:
    """What an operator takes for any value: a whole number too."""
    is_whole = type(leaf) in (int, torch.SymInt)
    return torch.full((), leaf, dtype=torch.int64) if is_whole else _fresh(leaf)


def _begun(rooms: Sequence[Tensor], turned: Tensor, most: Any) -> list[Tensor]:
    """What turns have filled of rooms that are as long as there may be turns."""
    length: Any = turned.item()
    _check(length >= 0)
    _check(length <= most)
    return [room.narrow(0, 0, length) for room in rooms]


def _with_numbers(leaves: Iterable[Any], are_whole: Iterable[bool]) -> list[Any]:
    """What comes through an operator, in which whole numbers are tensors."""
    pairs = zip(leaves, are_whole, strict=True)
    return [leaf.item() if is_whole else leaf for leaf, is_whole in pairs]


def _makes_whole(node: Any) -> list[bool]:
    """Of each result of a branch, whether it is a whole number that a side makes of something."""
    sides = zip(*(block.outputs() for block in node.blocks()), strict=True)
    return [
        output.type().kind() == "IntType"
        and any(side.node().kind() != "prim::Constant" for side in each)
        for output, each in zip(node.outputs(), sides, strict=True)
    ]


def _never_read(block: Any) -> list[int]:
    """Results of a side that returns elsewhere, or that returns before what they are for."""
    return [place for place, output in enumerate(block.outputs()) if _is_absent(output)]


def _is_absent(value: Any) -> bool:
    return bool(value.node().kind() == "prim::Uninitialized")


def _any_like(told: Any) -> Any:
    """Something of the same kind and shape."""
    return pytree.tree_map(_zero_like, told)


def _zero_like(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return torch.zeros(leaf.shape, dtype=leaf.dtype, device=leaf.device)
    return (
        0.0 if isinstance(leaf, torch.SymFloat) else 0 if isinstance(leaf, torch.SymInt) else leaf
    )


def _symbols(values: _Values) -> Any:
    """Where torch keeps what it knows of sizes."""
    mode: Any = detect_fake_mode([value for value in values.values() if isinstance(value, Tensor)])
    return mode.shape_env


def _own(leaf: Any) -> Any:
    """What may be written into: no input of an operator may."""
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _apart(leaves: Iterable[Any]) -> Iterator[Any]:
    """The operators allow no operands that share memory either, as the halves of a tensor do."""
    seen: set[int] = set()
    for leaf in leaves:
        memory = leaf.untyped_storage()._cdata if isinstance(leaf, Tensor) else id(leaf)
        is_shared = isinstance(leaf, Tensor) and (leaf._is_view() or memory in seen)
        seen.add(memory)
        yield _fresh(leaf) if is_shared or isinstance(leaf, torch.SymFloat) else leaf


def _truth(goes_on: Any) -> Tensor:
    return goes_on.clone() if isinstance(goes_on, Tensor) else torch.full((), bool(goes_on))
