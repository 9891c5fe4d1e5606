"""What hangs on weights alone, computed once: ONNX has no decompositions of matrices.

An orthogonal parametrisation is the matrix exponential of a weight; a Gaussian process factors
the covariance of the points that it was fitted on; a state space has a kernel of complex powers.
"""

import operator
from typing import Any, Final

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument
from torch.fx import Node
from torch.fx.node import map_arg

from edgeport.deploy.compilers.operators.fx_nodes import is_drawn

_LACKED: Final = frozenset(
    {
        "cholesky",
        "cholesky_inverse",
        "cholesky_solve",
        "det",
        "digamma",
        "erfinv",
        "inverse",
        "logdet",
        "lu_solve",
        "matrix_exp",
        "pinverse",
        "polygamma",
        "qr",
        "slogdet",
        "svd",
        "triangular_solve",
    }
)
"""Operators that ONNX lacks, beside those that begin with ``linalg_``."""


_CHECKS: Final = (
    torch.ops.aten._assert_tensor_metadata.default,
    torch.ops.aten._linalg_check_errors.default,
)


def fold(program: ExportedProgram) -> None:
    """Replace, in place, what needs an operator that ONNX lacks and hangs on no input."""
    constant = _constant(program)
    lacking: set[Node] = set()
    for node in constant:  # in the order of the graph
        if _is_lacked(node) or not lacking.isdisjoint(node.all_input_nodes):
            lacking.add(node)
    known = _given(program)
    folded = {node for node in lacking if not _is_complex(node)}
    for node in constant:
        if node.target in _CHECKS:  # they would keep alive what they check
            program.graph.erase_node(node)
        elif node in folded and not folded >= node.users.keys():
            value = _value(node, known)
            if isinstance(value, Tensor):
                added = _added(program, node, value.contiguous())
                known[added] = value
                node.replace_all_uses_with(added)
    program.graph.eliminate_dead_code()


def _constant(program: ExportedProgram) -> dict[Node, None]:
    """The nodes that have one value, whatever the inputs, in the order of the graph."""
    constant = dict.fromkeys(_given(program))
    for node in program.graph.nodes:
        hangs_on_constants = constant.keys() >= set(node.all_input_nodes)
        if isinstance(node.target, torch._ops.OpOverload):
            if node.target._schema.is_mutable and not constant.keys().isdisjoint(
                node.all_input_nodes
            ):
                return {}  # of what is written to, and of its views, nothing is known
            if hangs_on_constants and not is_drawn(node):
                constant[node] = None
        elif node.target is operator.getitem and hangs_on_constants:
            constant[node] = None
    return constant


def _given(program: ExportedProgram) -> dict[Node, Any]:
    """Weights, buffers and plain tensors by the nodes that stand for them."""
    tensors = {**program.constants, **program.state_dict}
    given = {
        spec.arg.name: tensors[spec.target]
        for spec in program.graph_signature.input_specs
        if spec.target in tensors
    }
    nodes = program.graph.find_nodes(op="placeholder")
    return {node: given[node.name] for node in nodes if isinstance(given.get(node.name), Tensor)}


def _is_lacked(node: Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    if _is_complex(node):
        return True
    name = node.target._schema.name.removeprefix("aten::").lstrip("_")
    return name.startswith("linalg_") or name in _LACKED


def _is_complex(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_complex()


def _value(node: Node, known: dict[Node, Any]) -> Any:
    if node not in known:
        args, options = map_arg((node.args, node.kwargs), lambda each: _value(each, known))
        function: Any = node.target
        with torch.no_grad():
            known[node] = function(*args, **options)
    return known[node]


def _added(program: ExportedProgram, node: Node, value: Tensor) -> Node:
    """A new constant of the program."""
    name = f"folded_{node.name}"
    first = next(iter(program.graph.nodes))
    with program.graph.inserting_before(first):
        added: Node = program.graph.placeholder(name)
    added.meta["val"] = node.meta["val"]
    spec = InputSpec(InputKind.CONSTANT_TENSOR, TensorArgument(name), target=name)
    program.graph_signature.input_specs.insert(0, spec)
    program.constants[name] = value
    return added
