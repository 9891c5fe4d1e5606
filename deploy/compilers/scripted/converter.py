"""From TorchScript to an exported program: its graph is interpreted while torch.export watches.

Lists, tuples and numbers are plain Python then; a branch on a value becomes torch's ``cond``
operator, and a loop whose end is not known becomes its ``while_loop`` operator, and a list that
grows in it one tensor. Private API of torch 2.13: it has no public way from TorchScript to an
exported program, and its private converter (``torch._export.converter``) handles neither such
loops nor branches that pass on what was computed before them.
"""

import functools
import re
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch._higher_order_ops.cond import cond_op
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils import _pytree as pytree

from edgeport.deploy.compilers import torchscript
from edgeport.deploy.compilers.capture import program
from edgeport.deploy.origins import origin
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.libtorch.script_graph import nodes

from .blocks import (
    names_written,
)
from .loops import looped
from .operands import (
    Outer,
    Values,
    any_like,
    as_tensor,
    fresh,
    makes_whole_numbers,
    never_read,
    told,
    with_numbers,
)
from .operators import Grown, computed, constant
from .writes import Writes

_cond: Any = cond_op  # these have no types
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
            results = looped(self._run, self._writes, node, args, values)
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
        return self._both(node, chosen, values)

    def _both(self, node: Any, chosen: Any, values: Values) -> Sequence[Any]:
        """A branch as torch's ``cond``, of which both sides are in the file."""
        self._writes.check_results(node)
        outer = Outer(node, values)
        written = names_written(node, values)
        specs: list[Any] = []
        makes_whole = makes_whole_numbers(node)

        def taking(block: Any, other: Any) -> Callable[..., tuple[Any, ...]]:
            absent = never_read(block)
            other_gives = told(self._run, other, values, written) if absent else ()

            def run(*operands: Any) -> tuple[Any, ...]:
                inside = outer.inside(operands)
                inside.update({name: inside[name].clone() for name in written})
                results = self._run(block, inside)
                for place in absent:
                    results[place] = any_like(other_gives[place])
                pairs = zip(results, makes_whole, strict=True)
                results = [as_tensor(each) if is_made else each for each, is_made in pairs]
                leaves, spec = pytree.tree_flatten([*results, *map(inside.get, written)])
                specs.append(spec)
                return tuple(map(fresh, leaves))

            return run

        one, other = node.blocks()
        sides = taking(one, other), taking(other, one)
        leaves = _cond(chosen, *sides, outer.operands)
        if any(spec != specs[0] for spec in specs):
            raise NotImplementedError("the sides of a branch differ in what they compute")
        found: list[Any] = pytree.tree_unflatten(leaves, specs[0])
        for name in reversed(written):
            values[name].copy_(found.pop())
        return with_numbers(found, makes_whole)


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
