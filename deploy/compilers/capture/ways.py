"""Several ways through forward in one program: where one would go another way, that is run.

A way is recorded of a sample that takes none of those before. Where a condition fails that such a
sample fails, its way is run, but for what was computed by then, and so on; what no sample takes
stays a condition, which raises.
"""

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch._higher_order_ops.cond import cond_op
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Interpreter, Node
from torch.fx import traceback as fx_traceback
from torch.fx.node import map_arg
from torch.utils import _pytree as pytree

from edgeport.deploy.compilers.operators import fx_nodes, number_functions
from edgeport.deploy.compilers.operators.symbols import SYMBOLS
from edgeport.deploy.compilers.scripted.operands import apart, fresh
from edgeport.deploy.sources.running import as_tensors, run_module
from edgeport.deploy.sources.samples import Sample
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.run_failures import ANOTHER_WAY

from . import harmless, one_way, program

_aten: Any = torch.ops.aten  # operators are made on demand: no types
_cond: Any = cond_op  # it has none either

Record: TypeAlias = Callable[[tuple[Tensor, ...]], ExportedProgram]
"""Records the way that inputs take."""


def with_others(source: Source, first: ExportedProgram, record: Record) -> ExportedProgram:
    """A way, and in the same program those of samples that take others.

    Args:
        source: Whose samples they are.
        first: The way of the example.
        record: Records others.

    Raises:
        NotImplementedError: There are too many, or they differ in a float or a fixed size.
        Exception: Whatever recording raises, or torch.export of two sides that differ in shape.
    """
    from .special_sizes import with_or_without  # loads sympy

    _require_shapes(source, first, others(source, first))
    found = Ways(_Finding(source, record).way(first, source.samples))
    with program.ready(), number_functions.known(), fx_traceback.preserve_node_meta():
        joined = with_or_without(partial(program.exported, source, found), source)
    for part in fx_nodes.parts(joined.graph_module):
        for node in part.graph.find_nodes(op="call_function", target=_aten.view.default):
            node.target = (
                _aten.reshape.default
            )  # attention has other strides where it is written out
        part.recompile()
    return joined


def others(source: Source, captured: ExportedProgram) -> list[Sample]:
    """The samples that take another way than what was captured."""
    asked = one_way.of_values(captured)
    module = one_way.runnable(captured)
    return [each for each in source.samples if one_way.answer(module, each.inputs)[0] & asked]


def _require_shapes(source: Source, first: ExportedProgram, others: Sequence[Sample]) -> None:
    """What cannot be joined is not recorded first, which takes long."""
    outputs: list[Any] = pytree.tree_leaves(first.graph.output_node().args)
    for sample in others:
        for y, answer in zip(outputs, run_module(source.flat, sample.inputs), strict=True):
            sizes = y.meta["val"].shape
            if len(sizes) != answer.ndim or any(map(_differ, sizes, answer.shape)):
                raise NotImplementedError("samples have outputs of other shapes")


def _differ(known: int | torch.SymInt, size: int) -> bool:
    return isinstance(known, int) and known != size


@dataclass(frozen=True, slots=True)
class _Way:
    """One way.

    Attributes:
        module: Runs it.
        turns: The conditions that samples fail, and the ways that these take.
    """

    module: GraphModule
    turns: Mapping[Node, "_Way"]

    def all(self) -> list["_Way"]:
        """It, and all to which it turns."""
        return [self, *(way for other in self.turns.values() for way in other.all())]


_BY_ROWS: Final = "which rows forward takes one by one"
_BY_A_FLOAT: Final = "a float that Python makes of values"

_MOST: Final = 31
"""Ways beside the first: each takes seconds to record, and has its operators in the file."""


class _Finding:
    """Finds the ways of samples.

    Args:
        source: Whose they are.
        record: Records one.
    """

    def __init__(self, source: Source, record: Record) -> None:
        self._source = source
        self._record = record
        self._left = _MOST

    def way(self, captured: ExportedProgram, samples: Sequence[Sample]) -> _Way:
        """A way, and those of samples that take others."""
        with program.free_kernels():
            captured = captured.run_decompositions({})  # nothing writes into anything then
        module = one_way.runnable(captured)
        _forget_writes(module)
        conditions = one_way.conditions(module.graph)
        asked = one_way.of_values(captured)
        failing: dict[int, list[Sample]] = defaultdict(list)
        behind: dict[int, int] = {}
        for sample in samples:
            failed = one_way.answer(module, sample.inputs)[0] & asked
            if not failed:
                continue
            of_forward = {each for each in failed if one_way.is_of_forward(conditions[each])}
            first = min(of_forward, default=min(failed))
            if not one_way.may_turn(conditions[first]):
                is_of_rows = conditions[first].args[-1] == one_way.ROWS
                what = _BY_ROWS if is_of_rows else _BY_A_FLOAT
                raise NotImplementedError(f"samples differ in {what}")
            failing[first].append(sample)
            for place in failed - of_forward:
                behind[place] = max(first, behind.get(place, first))
        for place, turn in behind.items():
            _put_behind(conditions[max(place, turn)], conditions[place])
        turns = {conditions[place]: self._other(own) for place, own in failing.items()}
        return _Way(module, turns)

    def _other(self, samples: Sequence[Sample]) -> _Way:
        if not self._left:
            raise NotImplementedError(f"samples take more than {_MOST + 1} ways through forward")
        self._left -= 1
        example = max(samples, key=lambda each: harmless.roominess(self._source, each.inputs))
        captured = self._record(tuple(as_tensors(example.inputs)))
        return self.way(captured, [sample for sample in samples if sample is not example])


class Ways(nn.Module):
    """Runs the first way, and others where it turns."""

    def __init__(self, first: _Way) -> None:
        super().__init__()
        self.training = False
        self._first = first
        for name, child in first.module.named_children():
            if not isinstance(child, GraphModule):
                self.add_module(name, child)
        named = (*self.named_parameters(), *self.named_buffers())
        names = {id(tensor): name for name, tensor in named}
        self._weights: dict[Node, str] = {}
        for way in first.all():
            for node in way.module.graph.find_nodes(op="get_attr"):
                tensor = operator.attrgetter(node.target)(way.module)
                if not isinstance(tensor, Tensor):
                    continue
                if id(tensor) not in names:
                    names[id(tensor)] = f"constant_{len(names)}"
                    self.register_buffer(names[id(tensor)], tensor.detach())
                self._weights[node] = names[id(tensor)]
        self._numbers = _numbered([way.module.graph for way in first.all()], self._weights)

    def forward(self, *inputs: Tensor) -> Any:
        """Run it on tensors."""
        weights = {name: operator.attrgetter(name)(self) for name in self._weights.values()}
        return self._from(_Running(self._first, inputs, weights), self._missing(self._first, {}))

    def _from(self, running: "_Running", nodes: Sequence[Node]) -> Any:
        """Run nodes, of which the last is the output."""
        run = Interpreter(running.way.module)
        run.env = running.known
        for place, node in enumerate(nodes):
            if node in running.way.turns:
                return self._turn(running, node, nodes[place + 1 :])
            if node in self._weights:
                running.known[node] = running.weights[self._weights[node]]
            else:
                running.known[node] = run.run_node(node)
        return running.known[nodes[-1]]

    def _turn(self, running: "_Running", turn: Node, rest: Sequence[Node]) -> Any:
        """Go on where a condition holds, and by another way where it does not."""
        way, other = running.way, running.way.turns[turn]
        known = running.known
        passed, again = self._passed_on(known, rest)
        shared: dict[Node, Node] = {}
        missing = self._missing(other, known, shared)
        names = [*dict.fromkeys((*passed, *shared.values()))]
        fixed = {node: value for node, value in known.items() if _is_fixed(value)}

        def inside(way: _Way, operands: Sequence[Any]) -> tuple["_Running", dict[Node, Any]]:
            to = len(running.inputs), len(running.inputs) + len(names)
            values = dict(zip(names, operands[to[0] : to[1]], strict=True))
            weights = dict(zip(running.weights, operands[to[1] :], strict=True))
            return _Running(way, operands[: to[0]], weights), values

        def goes_on(*operands: Any) -> Any:
            same, values = inside(way, operands)
            same.known.update(fixed)
            same.known.update({node: values[node] for node in passed})
            return tuple(map(fresh, self._from(same, [*again, *rest])))

        def turns(*operands: Any) -> Any:
            begun, values = inside(other, operands)
            begun.known.update({node: values[taken] for node, taken in shared.items()})
            return tuple(map(fresh, self._from(begun, missing)))

        (condition,) = turn.all_input_nodes
        operands = (*running.inputs, *(known[node] for node in names), *running.weights.values())
        return _cond(known[condition], goes_on, turns, tuple(apart(operands)))

    def _passed_on(
        self, known: Mapping[Node, Any], rest: Sequence[Node]
    ) -> tuple[list[Node], list[Node]]:
        """What goes into a side, and what is made again there: truths, numbers, weights."""
        passed: dict[Node, None] = {}
        again: dict[Node, None] = {}

        def need(node: Node) -> None:
            if node not in known or node in again or _is_fixed(known[node]):
                return
            if node not in self._weights and isinstance(known[node], Tensor | torch.SymInt):
                passed[node] = None
                return
            for each in node.all_input_nodes:
                need(each)
            again[node] = None

        for later in rest:
            for node in later.all_input_nodes:
                need(node)
        return [*passed], [*again]

    def _missing(
        self, way: _Way, known: Mapping[Node, Any], shared: dict[Node, Node] | None = None
    ) -> list[Node]:
        """What is left to do for a way, where some of it was done before.

        Numbers are made anew, and what they are made of: torch would ask before a branch what one
        of its sides asks of them.

        Args:
            way: It.
            known: What another way has made.
            shared: Where it is noted what is taken from there.
        """
        nodes = [node for node in way.module.graph.nodes if node.op != "placeholder"]
        made = {
            self._numbers[node]: node
            for node, value in known.items()
            if node not in self._weights
            and (value is None or (isinstance(value, Tensor) and not any(map(_asks, node.users))))
        }
        wanted: set[Node] = set()
        asked = [node for node in nodes if node.op == "output" or node.is_impure()]
        while asked:
            node = asked.pop()
            taken = made.get(self._numbers[node])
            if taken is None and node.op != "placeholder" and node not in wanted:
                wanted.add(node)
                asked += node.all_input_nodes
            elif taken is not None and shared is not None and known[taken] is not None:
                shared[node] = taken
        return [node for node in nodes if node in wanted]


class _Running:
    """A way, and what it has come to.

    Args:
        way: It.
        inputs: Of the program.
        weights: By name.
    """

    def __init__(self, way: _Way, inputs: Sequence[Tensor], weights: Mapping[str, Tensor]) -> None:
        self.way = way
        self.inputs = inputs
        self.weights = weights
        given = way.module.graph.find_nodes(op="placeholder")
        self.known: dict[Node, Any] = dict(zip(given, inputs, strict=True))


def _numbered(graphs: Iterable[Graph], weights: Mapping[Node, str]) -> dict[Node, int]:
    """Nodes of several graphs: those that compute the same have the same number."""
    keys: dict[Any, int] = {}
    numbers: dict[Node, int] = {}
    for graph in graphs:
        given = 0
        for node in graph.nodes:
            key: Any = node
            if node.op == "placeholder":
                key, given = given, given + 1
            elif node in weights:
                key = weights[node]
            elif node.op == "call_function" and not fx_nodes.is_drawn(node):
                told = map_arg((node.args, node.kwargs), lambda arg: f"%{numbers[arg]}")
                key = (node.target, repr(told))
            numbers[node] = keys.setdefault(key, len(keys))
    return numbers


def _asks(node: Node) -> bool:
    """Whether it makes a number of values, or a size."""
    tags = getattr(node.target, "tags", ())
    return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags


def _is_fixed(value: Any) -> bool:
    return not any(isinstance(leaf, (Tensor, *SYMBOLS)) for leaf in pytree.tree_leaves(value))


def _forget_writes(module: GraphModule) -> None:
    """Leave the inputs as they are; nobody sees what is written into them.

    Raises:
        NotImplementedError: A buffer is written.
    """
    for node in module.graph.find_nodes(op="call_function", target=_aten.copy_.default):
        if node.args[0].op != "placeholder":
            raise NotImplementedError("forward keeps something from call to call")
        node.replace_all_uses_with(node.args[1])
        module.graph.erase_node(node)


def _put_behind(turn: Node, condition: Node) -> None:
    """Ask what torch does of a number, as its range, behind a turn, where it is in this range.

    It is asked of a tensor: torch puts what is asked of a number where the number is made.
    """
    graph = turn.graph
    asked = condition.args[0]
    with graph.inserting_after(turn):
        number = graph.call_function(torch.sym_ite, (asked, 1, 0))
    with graph.inserting_after(number):
        tensor = graph.call_function(_aten.full.default, ([], number))
    with graph.inserting_after(tensor):
        holds = graph.call_function(_aten.eq.Scalar, (tensor, 1))
    with graph.inserting_after(holds):
        graph.call_function(_aten._assert_async.msg, (holds, ANOTHER_WAY))
    graph.erase_node(condition)
