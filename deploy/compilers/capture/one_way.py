"""A file that has one way through forward refuses what takes another, as a ``.pt2`` does.

Its outputs hang on the conditions that were recorded. ONNX has no assertion: a ``Squeeze`` fails.
"""

import contextlib
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from importlib import import_module
from typing import Any, Final

import numpy as np
import sympy
import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.export import ExportedProgram
from torch.export.graph_signature import TensorArgument
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree

from edgeport.deploy.compilers.onnx_files.size_floats import TRACE
from edgeport.deploy.compilers.operators import fx_nodes
from edgeport.deploy.sources.drawing import cut_or_repeated
from edgeport.deploy.sources.running import as_tensors, run_module
from edgeport.deploy.sources.samples import rows_of, sizes_of
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.run_failures import ANOTHER_WAY

_aten: Any = torch.ops.aten  # operators are made on demand: no types
_choose: Any = torch.sym_ite  # these have none either
_mode: Any = detect_fake_mode


_ASSERTIONS: Final = (
    _aten._assert_async.default,
    _aten._assert_async.msg,
    _aten._assert_scalar.default,
)


@torch.library.custom_op("edgeport::only_if", mutates_args=())
def _only_if(x: Tensor, holds: Tensor) -> Tensor:
    if not holds:
        raise ValueError(ANOTHER_WAY)
    return x.clone()


@_only_if.register_fake
def _alike(x: Tensor, holds: Tensor) -> Tensor:
    return x.clone()


ONLY_IF: Final[Any] = torch.ops.edgeport.only_if.default
"""The same values if a condition, a bool without axes, holds."""


def guarded(captured: ExportedProgram, *, of_numbers: bool = True) -> ExportedProgram:
    """Let the outputs of a program, in place, hang on what it asserts of values.

    So do those of a side of a branch, and of a turn of a loop, on what is asserted there.

    Args:
        captured: The program.
        of_numbers: Of numbers that are made of them too, of which torch asserts more than forward.
    """
    for part in fx_nodes.parts(captured.graph_module):
        is_whole = part is captured.graph_module
        _hang(part.graph, _is_of_values if is_whole and of_numbers else _is_of_tensors)
        part.recompile()
    outputs: Any = captured.graph.output_node().args[0]  # its types say that there may be none
    for spec, y in zip(captured.graph_signature.output_specs, outputs, strict=True):
        if isinstance(spec.arg, TensorArgument):
            spec.arg = TensorArgument(y.name)
    return captured


def _hang(graph: Any, is_asserted: Callable[[Node], bool]) -> None:
    output = graph.output_node()
    asserted = [node for node in graph.nodes if is_asserted(node)]
    if not asserted:
        return
    with _mode([node.meta["val"] for node in graph.nodes if "val" in node.meta]):
        conditions = []
        for node in asserted:  # which torch would take for granted behind it
            with graph.inserting_before(node):
                conditions.append(_truth(node.args[0]))
            graph.erase_node(node)
        with graph.inserting_before(output):
            holds = reduce(_both, conditions)
            made = {y: _hung(y, holds) for y in output.all_input_nodes if _is_tensor(y)}
    output.args = (tuple(made.get(y, y) for y in output.args[0]),)


def _is_tensor(node: Node) -> bool:
    return isinstance(node.meta["val"], Tensor)


def runnable(captured: ExportedProgram) -> GraphModule:
    """What runs a program."""
    module: GraphModule = captured.module(check_guards=False)
    module._forward_pre_hooks.clear()  # it compares sizes
    return module


def conditions(graph: Any) -> list[Node]:
    """What a program asserts, in its order."""
    return [node for node in graph.nodes if node.target in _ASSERTIONS]


def of_values(captured: ExportedProgram) -> set[int]:
    """The places of conditions that inputs of the declared sizes may fail."""
    asserted = enumerate(conditions(captured.graph_module.graph))
    return {place for place, node in asserted if _is_of_values(node)}


def is_of_forward(condition: Node) -> bool:
    """Whether forward asks it; what torch asserts beside follows from that."""
    return str(condition.args[-1]).startswith(ANOTHER_WAY)


def may_turn(condition: Node) -> bool:
    """Whether samples may go another way there: by a truth or a whole number, not by a float."""
    if condition.args[-1] == ANOTHER_WAY:
        return True
    asked: Any = condition.args[0]
    return asked.target is _aten.eq.Scalar and not asked.args[0].meta["val"].is_floating_point()


def answer(module: GraphModule, inputs: Mapping[str, Array]) -> tuple[set[int], list[Any] | None]:
    """Which conditions inputs fail, and what is answered nevertheless, if nothing raises."""
    asked = _Asked(module)
    answers: list[Any] | None = None
    with contextlib.suppress(Exception), torch.no_grad():  # by another way it may not run
        answers = pytree.tree_leaves(asked.run(*as_tensors(inputs)))
    return {place for place, holds in enumerate(asked.held) if not holds}, answers


ROWS: Final = f"{ANOTHER_WAY}, by rows"
"""The message of what asserts which rows forward takes one by one; each set of them is a way."""

NUMBER: Final = f"{ANOTHER_WAY}, by a number, "
"""So begins the message of what asserts that a number is that of the example; its place follows."""


def prune(source: Source, captured: ExportedProgram) -> set[int]:
    """Drop, in place, what samples fail, where the program still answers as the module does.

    It has to near one of them too: of zeros alone most ways answer the same.

    Returns:
        The places of numbers that may be others than the example has.
    """
    graph = captured.graph_module.graph
    _drop_fixed(captured)
    asserted = conditions(graph)
    asked = of_values(captured)
    if not asked:
        return set()
    module = runnable(captured)
    failing: dict[frozenset[int], list[Mapping[str, Array]]] = defaultdict(list)
    for sample in source.samples:
        if own := frozenset(answer(module, sample.inputs)[0] & asked):
            failing[own].append(sample.inputs)
    known = set().union(*failing)
    right: list[set[int]] = []
    wrong: list[set[int]] = []
    for own, given in failing.items():
        one = max(given, key=partial(roominess, source))
        others = itertools.chain(_beside(one, source), _near(one, source.example))
        for inputs in itertools.chain(given, others):
            places, answers = answer(module, inputs)
            failed = places & asked
            if not failed or not failed <= known:
                continue
            is_right = _is_right(source, inputs, answers)
            if is_right:
                right.append(failed)
            elif is_right is not None:
                wrong.append(failed)
                if failed == own:
                    break
    of_forward = {place for place, node in enumerate(asserted) if is_of_forward(node)}
    dropped = [asserted[place] for place in _harmless(right, wrong, of_forward)]
    fixed = numbers(dropped)
    for node in dropped:
        graph.erase_node(node)
    graph.eliminate_dead_code()
    captured.graph_module.recompile()
    return fixed


def numbers(asserted: Iterable[Node]) -> set[int]:
    """The places of numbers that are asserted to be those of an example."""
    messages = [str(node.args[-1]) for node in asserted]
    return {int(each.removeprefix(NUMBER)) for each in messages if each.startswith(NUMBER)}


def _drop_fixed(captured: ExportedProgram) -> None:
    """Drop what hangs on constants alone: the norm of a weight is rounded otherwise by engines."""
    graph = captured.graph_module.graph
    signature = captured.graph_signature
    fixed = {*signature.inputs_to_parameters, *signature.inputs_to_lifted_tensor_constants}
    varying: set[Node] = set()
    for node in graph.nodes:
        is_given = node.op == "placeholder" and node.name not in fixed
        if is_given or fx_nodes.is_drawn(node) or not varying.isdisjoint(node.all_input_nodes):
            varying.add(node)
        elif node.target in _ASSERTIONS and isinstance(node.args[0], Node):
            graph.erase_node(node)
    captured.graph_module.recompile()


def _harmless(
    right: Sequence[set[int]], wrong: Sequence[set[int]], of_forward: set[int]
) -> set[int]:
    """What changes nothing where it fails: alone, or beside what changes nothing either.

    Where two fail, one may hide what the other would change. What always fails together is one: the
    same mask, asked in each layer.

    Args:
        right: What failed where the answer was right nevertheless, by input.
        wrong: The same where it was wrong.
        of_forward: What forward asks; what else failed follows from that.
    """
    seen = (*right, *wrong)
    found: set[int] = set()

    def is_harmless(failed: set[int]) -> bool:
        together = {tuple(p in each for each in seen) for p in (failed - found) & of_forward}
        return len(together) < 2 and not any(each <= found | failed for each in wrong)

    left = sorted(right, key=len)
    while (failed := next(filter(is_harmless, left), None)) is not None:
        found |= failed
        left.remove(failed)
    return found


def _is_right(
    source: Source, inputs: Mapping[str, Array], answers: Sequence[Any] | None
) -> bool | None:
    """Whether the module answers the same; ``None``: both raise, as of what is not invertible."""
    try:
        expected = [*map(torch.as_tensor, run_module(source.flat, inputs))]
    except Exception:  # the user's module may raise anything
        return None if answers is None else False
    if answers is None:
        return False
    return len(expected) == len(answers) and all(
        is_close(*pair, _ROUNDED) for pair in zip(expected, answers, strict=True)
    )


def is_close(expected: Tensor, answer: Tensor, digits: float) -> bool:
    """Whether rounding alone may be between them: so many last digits of the largest value."""
    if expected.shape != answer.shape or expected.dtype != answer.dtype:
        return False
    if not expected.is_floating_point():
        return torch.equal(expected, answer)
    finite = expected[expected.isfinite()].abs()
    error = digits * torch.finfo(expected.dtype).eps * finite.max() if finite.numel() else 0.0
    return torch.allclose(answer, expected, rtol=0.0, atol=float(error), equal_nan=True)


_ROUNDED: Final = 16
"""A batch norm that was not trained is further off."""


def roominess(source: Source, inputs: Mapping[str, Array]) -> tuple[int, int]:
    """How much inputs tell by their sizes: 1 may be special, and equal ones may be one."""
    sizes = sizes_of(source.signature, inputs).values()
    return min([2, *sizes]), len({*sizes})


def _beside(inputs: Mapping[str, Array], source: Source) -> Iterator[dict[str, Array]]:
    """Its rows and those of the example in one, either first: ``if (x < 0).any():`` asks all."""
    rows = rows_of(source.signature)
    if rows is None or not all(each.size for each in source.example.values()):
        return
    pairs: dict[str, tuple[Array, Array]] = {}
    for name, array in inputs.items():
        sizes = dict(enumerate(array.shape[1:], 1))
        pairs[name] = (array, cut_or_repeated(source.example[name], sizes))
    together = sum(len(each) for each in next(iter(pairs.values())))
    if together in source.signature.range_of(rows):
        for order in (1, -1):
            yield {name: np.concatenate(pair[::order]) for name, pair in pairs.items()}


def _near(inputs: Mapping[str, Array], example: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    """Others, of which some go the same way: all inputs moved, or the floats alone."""
    draw = np.random.default_rng(0)
    for far, way, are_floats in itertools.product(_FAR, _WAYS, (True, False)):
        yield {
            name: array
            if are_floats and array.dtype.kind != "f"
            else _moved(array, example[name], far, way, draw)
            for name, array in inputs.items()
        }


_FAR: Final = (1e-4, 1e-2, 0.1, 1.0, 1e3, 1e6)
"""Of the largest value of the example; far off, bounds show that change nothing near it."""

_WAYS: Final[tuple[Callable[[Any], Any], ...]] = (
    lambda moves: moves,
    np.abs,
    lambda moves: -np.abs(moves),
    np.ones_like,
    lambda moves: -np.ones_like(moves),
    lambda moves: np.round(8 * (moves - np.flip(moves))),  # their sum is 0, without rounding
)


def _moved(
    array: Array, like: Array, far: float, way: Callable[[Any], Any], draw: np.random.Generator
) -> Array:
    if not like.size:
        return array
    if array.dtype.kind != "f":
        is_moved = draw.random(array.shape) < draw.random()
        return np.where(is_moved, draw.choice(like.ravel(), array.shape), array).astype(array.dtype)
    most = float(np.abs(like[np.isfinite(like)]).max(initial=0.0)) or 1.0
    step = 2.0 ** round(math.log2(far * most))
    with np.errstate(over="ignore"):
        moved: Array = (array + step * way(draw.uniform(-1.0, 1.0, array.shape))).astype(
            array.dtype
        )
    return moved


class _Asked(Interpreter):
    """Runs a program, and notes what holds of all that it asserts."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.held: list[bool] = []

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call it, but for an assertion."""
        if target not in _ASSERTIONS:
            return super().call_function(target, args, kwargs)
        self.held.append(bool(args[0]))
        return None


def in_onnx(x: Any, holds: Any) -> Any:
    """The translation to ONNX, by onnxscript: what has two values cannot lose its axis.

    What it gives is axis 0, by which each output loses one that it was given.
    """
    op = import_module("onnxscript").opset18
    zero, one, two = (op.Constant(value_int=number) for number in range(3))
    first = op.Constant(value_ints=[0])
    held = op.Squeeze(op.Range(zero, op.Where(holds, one, two), one), first)
    return op.Squeeze(op.Unsqueeze(x, first), op.Unsqueeze(held, first))


def name(graph: Any) -> None:
    """Let the nodes that fail say why.

    Args:
        graph: Of onnxscript's IR, which is changed.
    """
    failing = (
        node
        for node in graph.all_nodes()
        if node.op_type == "Squeeze" and "edgeport.only_if" in str(node.metadata_props.get(TRACE))
    )
    for number, node in enumerate(failing):
        node.name = f"{ANOTHER_WAY}, {number}"


def _is_of_tensors(node: Node) -> bool:
    """Whether it is an assertion of a tensor, and not of which turn of a loop it is."""
    return node.target in _ASSERTIONS[:2] and isinstance(node.args[0], Node)


def _is_of_values(node: Node) -> bool:
    """Whether it is an assertion that inputs of the declared sizes may fail."""
    condition = node.args[0] if node.target is _aten._assert_scalar.default else None
    if not isinstance(condition, Node):
        return _is_of_tensors(node)
    if _is_made_of_items(condition):  # of which torch may know what it asserted before
        return True
    asked = condition.meta["val"].node
    counts = free_unbacked_symbols(asked.expr)
    any_count = {each: sympy.Dummy(integer=True, nonnegative=True) for each in counts}
    is_true = counts <= asked.shape_env.size_like and asked.expr.xreplace(any_count) == sympy.true
    return bool(counts) and not is_true


def _is_made_of_items(number: Node) -> bool:
    if number.target in (_aten.item.default, _aten._local_scalar_dense.default):
        return True
    is_of_tensors = isinstance(number.target, torch._ops.OpOverload)
    return not is_of_tensors and any(map(_is_made_of_items, number.all_input_nodes))


def _truth(condition: Node) -> Node:
    """A condition as a tensor."""
    if isinstance(condition.meta["val"], Tensor):
        return condition
    number = fx_nodes.made(_choose, condition, 1, 0)
    return fx_nodes.made(_aten.eq.Scalar, fx_nodes.made(_aten.full.default, [], number), 1)


def _both(one: Node, other: Node) -> Node:
    return fx_nodes.made(_aten.logical_and.default, one, other)


def _hung(y: Node, holds: Node) -> Node:
    """An output that hangs on a condition; to compute its sizes would tell torch more of them."""
    made = y.graph.call_function(ONLY_IF, (y, holds))
    made.meta["val"] = y.meta["val"]
    return made
