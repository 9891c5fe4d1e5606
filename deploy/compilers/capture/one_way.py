"""A file that has one way through forward refuses what takes another, as a ``.pt2`` does.

Its outputs hang on the conditions that were recorded. ONNX has no assertion: a ``Squeeze`` fails.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from importlib import import_module
from typing import Any, Final

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
from edgeport.deploy.sources.running import as_tensors
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.run_failures import ANOTHER_WAY

_aten: Any = torch.ops.aten  # operators are made on demand: no types
_choose: Any = torch.sym_ite  # these have none either
_mode: Any = detect_fake_mode


ASSERTIONS: Final = (
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
    return [node for node in graph.nodes if node.target in ASSERTIONS]


def of_values(captured: ExportedProgram) -> set[int]:
    """The places of conditions that inputs of the declared sizes may fail."""
    asserted = enumerate(conditions(captured.graph_module.graph))
    return {place for place, node in asserted if _is_of_values(node)}


def is_of_forward(condition: Node) -> bool:
    """Whether forward asks it; what torch asserts beside follows from that."""
    return str(condition.args[-1]).startswith(ANOTHER_WAY)


def may_turn(condition: Node) -> bool:
    """Whether samples may go another way there: by a truth or a whole number, not by a float."""
    if condition.args[-1] in (ANOTHER_WAY, SOME):
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
"""The message of what asserts which rows forward takes one by one, each by itself."""

SOME: Final = f"{ANOTHER_WAY}, by none"
"""The message of what asserts that a count, or another number, is not the 0 that alone differs."""

NUMBER: Final = f"{ANOTHER_WAY}, by a number, "
"""So begins the message of what asserts that a number is that of the example; its place follows."""


def numbers(asserted: Iterable[Node]) -> set[int]:
    """The places of numbers that are asserted to be those of an example."""
    messages = [str(node.args[-1]) for node in asserted]
    return {int(each.removeprefix(NUMBER)) for each in messages if each.startswith(NUMBER)}


class _Asked(Interpreter):
    """Runs a program, and notes what holds of all that it asserts."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self.held: list[bool] = []

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Call it, but for an assertion."""
        if target not in ASSERTIONS:
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
    return node.target in ASSERTIONS[:2] and isinstance(node.args[0], Node)


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
