"""From TorchScript to an exported program: its graph is interpreted while torch.export watches.

Lists, tuples and numbers are plain Python then; a branch on a value becomes torch's ``cond``
operator, and a loop whose end is not known becomes its ``while_loop`` operator, and a list that
grows in it one tensor. Private API of torch 2.13: it has no public way from TorchScript to an
exported program, and its private converter (``torch._export.converter``) handles neither such
loops nor branches that pass on what was computed before them.
"""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from types import FunctionType
from typing import Any, Final

import torch
from torch import Tensor, nn
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
    names_written,
)
from .script_operands import (
    Outer,
    Values,
    any_like,
    as_tensor,
    fresh,
    is_absent,
    makes_whole_numbers,
    never_read,
    own,
    symbols,
    with_numbers,
)
from .script_operators import Grown, computed, constant
from .script_writes import Writes

_cond: Any = cond_op  # these have no types
_check: Any = torch._check
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


def _take(step: Callable[[Any, Values], None], node: Any, values: Values) -> None:
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
        values: Values = {name: getattr(self, buffer) for name, buffer in self._buffer_of.items()}
        names = [value.debugName() for value in self._graph.inputs()]
        values.update(zip(names[1:], inputs, strict=True))  # the first is the module
        (result,) = self._run(self._graph, values)
        return result

    def _run(self, block: Any, values: Values) -> list[Any]:
        for node in block.nodes():
            _at_its_line(node)(self._step, node, values)
        return [values[output.debugName()] for output in block.outputs()]

    def _step(self, node: Any, values: Values) -> None:
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
            result = _whole(node, computed(node, args))
            if isinstance(result, Grown):
                self._writes.check_parts(node)
            results = [result] if len(names) == 1 else result or ()
        values.update(zip(names, results, strict=True))

    def _branch(self, node: Any, chosen: Any, values: Values) -> Sequence[Any]:
        blocks = [*node.blocks()]
        if any(block.findNode("prim::RaiseException") for block in blocks):
            chosen = _known(chosen)
        if isinstance(chosen, bool):
            return self._run(blocks[not chosen], values)
        if going_on := _without_raise(blocks):
            is_first = going_on is blocks[0]
            _assert(fresh(chosen) == is_first, "forward raises")
            return self._run(going_on, values)
        self._writes.check_results(node)
        outer = Outer(node, values)
        written = names_written(node, values)
        specs: list[Any] = []
        makes_whole = makes_whole_numbers(node)

        def taking(block: Any, other: Any) -> Callable[..., tuple[Any, ...]]:
            absent = never_read(block)
            told = self._told(other, values, written) if absent else ()

            def run(*operands: Any) -> tuple[Any, ...]:
                inside = outer.inside(operands)
                inside.update({name: inside[name].clone() for name in written})
                results = self._run(block, inside)
                for place in absent:
                    results[place] = any_like(told[place])
                pairs = zip(results, makes_whole, strict=True)
                results = [as_tensor(each) if is_made else each for each, is_made in pairs]
                leaves, spec = pytree.tree_flatten([*results, *map(inside.get, written)])
                specs.append(spec)
                return tuple(map(fresh, leaves))

            return run

        sides = map(taking, blocks, reversed(blocks))
        leaves = _cond(chosen, *sides, outer.operands)
        if any(spec != specs[0] for spec in specs):
            raise NotImplementedError("the sides of a branch differ in what they compute")
        found: list[Any] = pytree.tree_unflatten(leaves, specs[0])
        for name in reversed(written):
            values[name].copy_(found.pop())
        return with_numbers(found, makes_whole)

    def _told(self, block: Any, values: Values, written: Sequence[str]) -> Sequence[Any]:
        """Of what kind and shape a side of a branch gives what the other does not."""
        inside = {**values, **{name: values[name].clone() for name in written}}
        known = symbols(values)
        with (
            disable_proxy_modes_tracing(),
            known.suppress_guards(),
            known.ignore_fresh_unbacked_symbols(),
        ):
            return self._run(block, inside)

    def _loop(self, node: Any, args: Sequence[Any], values: Values) -> Sequence[Any]:
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
        self, node: Any, state: tuple[int, Any], carried: Sequence[Any], values: Values
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
        outer = Outer(node, values, count_name, without=(*grows, *written))
        if turn == 0:
            carried = self._with_stands(node, names, carried, values, written)
        held = {**values, **dict(zip(names[1:], carried, strict=True))}
        carried = _emptied(names, carried, grows)
        rooms = self._empty(block, names, (turn, *carried), turns, values, grows)
        carried = [*carried, *rooms, *map(values.get, written)]
        leaves, spec = pytree.tree_flatten(carried)
        are_whole = [type(leaf) in (int, torch.SymInt) for leaf in leaves]
        first = turn
        start = (torch.full((), turn), fresh(goes_on), *map(as_tensor, leaves))

        def again(turn: Tensor, goes_on: Tensor, *rest: Any) -> Any:
            return (turn < outer.inside(rest[len(leaves) :])[count_name]) & goes_on

        def body(turn: Tensor, goes_on: Tensor, *rest: Any) -> tuple[Any, ...]:
            inside = outer.inside(rest[len(leaves) :])
            number = turn.item()
            _check(number >= 0)
            _check(number < inside[count_name])
            held = with_numbers(rest[: len(leaves)], are_whole)
            before = iter(pytree.tree_unflatten(held, spec))
            state = pytree.tree_map(own, [*islice(before, len(names) - 1)])
            inside.update(zip(names, (number, *state), strict=True))
            inside.update({name: [] for name in grows})
            rooms = [*islice(before, len(grows))]
            inside.update(zip(written, map(own, before), strict=True))
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
            return turn + 1, fresh(goes_on), *map(as_tensor, flat)

        loop: Any = while_loop_op
        turned, _, *ends = loop(again, body, start, outer.operands)
        found: list[Any] = pytree.tree_unflatten(with_numbers(ends, are_whole), spec)
        for name in reversed(written):
            values[name].copy_(found.pop())
        filled = [found.pop() for _ in grows]
        if grows and not always_goes_on(block):
            filled = _begun(filled, turned - first, turns)
        grown = {name: Grown(held[name], filled.pop()) for name in grows}
        values.update(grown)
        return [grown.get(name, value) for name, value in zip(names[1:], found, strict=True)]

    def _with_stands(
        self,
        node: Any,
        names: Sequence[str],
        carried: Sequence[Any],
        values: Values,
        written: Sequence[str],
    ) -> Sequence[Any]:
        """What a loop begins with, where a return in it will give something that is not yet."""
        _, _, *given = node.inputs()
        if not any(map(is_absent, given)):
            return carried
        (block,) = node.blocks()
        at_start = {**values, **dict(zip(names, (0, *carried), strict=True))}
        _, *told = self._told(block, at_start, written)
        pairs = zip(given, carried, told, strict=True)
        return [any_like(after) if is_absent(each) else value for each, value, after in pairs]

    def _empty(
        self,
        block: Any,
        names: Sequence[str],
        state: Sequence[Any],
        turns: Any,
        values: Values,
        grows: Sequence[str],
    ) -> Iterator[Tensor]:
        """Room for what each list will hold; a turn tells of what shape, and is thrown away."""
        if not grows:
            return
        inside = {**values, **dict(zip(names, state, strict=True))}
        inside.update({name: [] for name in grows})
        known = symbols(values)
        with disable_proxy_modes_tracing(), known.suppress_guards():
            self._run(block, inside)
        for name in grows:
            (part,) = inside[name]
            room: Any = (turns, *part.shape)  # its types know no free sizes
            yield torch.zeros(room, dtype=part.dtype, device=part.device)


def _whole(node: Any, result: Any) -> Any:
    """What ``floor``, ``ceil`` and ``round`` give of a number that is made of values."""
    is_whole = isinstance(result, Tensor) and node.output().type().kind() == "IntType"
    return result.long().item() if is_whole else result


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


def _begun(rooms: Sequence[Tensor], turned: Tensor, most: Any) -> list[Tensor]:
    """What turns have filled of rooms that are as long as there may be turns."""
    length: Any = turned.item()
    _check(length >= 0)
    _check(length <= most)
    return [room.narrow(0, 0, length) for room in rooms]
