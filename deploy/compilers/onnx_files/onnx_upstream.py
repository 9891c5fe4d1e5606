"""What torch's exporter to ONNX needs to be told, and what is mended in it (torch 2.13)."""

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterator
from importlib import import_module
from types import BuiltinFunctionType, SimpleNamespace
from typing import Any, Final
from unittest import mock

import torch
from torch._higher_order_ops.cond import cond_op
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from edgeport.deploy.compilers.operators import complex_parts, quotients
from edgeport.deploy.compilers.operators.fx_nodes import made, nodes_of, parts, value_of
from edgeport.deploy.compilers.operators.symbols import always

_EXPORTER: Final = "torch.onnx._internal.exporter"
_DECOMPOSED: Final = "edgeport decomposed"
_NUMBER: Final = "edgeport number"


@contextlib.contextmanager
def mended() -> Iterator[None]:
    """While it is entered, the exporter is as it should be."""
    with (
        _exact_rewrites(),
        rules_of_the_operator(),
        _exact_numbers(),
        _decomposed_once(),
        _outputs_of_their_dtype(),
        _values_as_they_are(),
        _one_version_of_functions(),
    ):
        yield


@contextlib.contextmanager
def _exact_rewrites() -> Iterator[None]:
    """Let dynamo's exporter drop ``x + 0`` and ``x * 1`` only where the constants are just that.

    onnxscript 0.7.2 drops what is within 1e-8 of 0 or within 1e-5 of 1: the ``1e-8`` that keeps
    a division finite, and a factor of 1.000009. At opset 23 it makes a ``RotaryEmbedding`` of
    angles for one row and values for many, which that operator refuses: they stay as they are.
    """
    matcher = import_module("onnxscript.rewriter._matcher")  # loads onnxscript
    rotary = import_module("onnxscript.rewriter.rules.fusion._rotary_embedding")
    with (
        mock.patch.object(matcher, "math", SimpleNamespace(isclose=_is_equal)),
        mock.patch.object(rotary, "fuse_rotary_embedding", _fused_none),
    ):
        yield


def _fused_none(model: object, *, debug: bool = False) -> int:
    return 0


@contextlib.contextmanager
def _exact_numbers() -> Iterator[None]:
    """Let dynamo's exporter write the number of ``x + 0.1`` as it is, where ``x`` is a float64.

    It makes a float32 of it, and a float64 of that (torch 2.13, onnxscript 0.7.2).
    """
    building = import_module(f"{_EXPORTER}._building")  # loads onnxscript
    own_constant = building._get_or_create_constant
    own_call = building.OpRecorder._call_op

    def constant(farm: Any, number: Any, dtype: Any, opset: Any) -> Any:
        value = own_constant(farm, number, dtype, opset)
        if type(number) is float:
            value.meta[_NUMBER] = number
        return value

    def call(recorder: Any, signature: Any, inputs: Any, attributes: Any, count: int) -> Any:
        if signature.name in ("Cast", "CastLike"):
            given = inputs["input"]
            number = given if type(given) is float else getattr(given, "meta", {}).get(_NUMBER)
            to = attributes.get("to") or getattr(inputs.get("target_type"), "dtype", None)
            if number is not None and to == building.ir.DataType.DOUBLE:
                return [constant(recorder.constant_farm, number, to, recorder.opset)]
        return own_call(recorder, signature, inputs, attributes, count)

    with (
        mock.patch.object(building, "_get_or_create_constant", constant),
        mock.patch.object(building.OpRecorder, "_call_op", call),
    ):
        yield


def onnx_decompositions(opset: int) -> dict[Any, Callable[..., Any]]:
    """What dynamo's exporter takes apart, as it has no function of ONNX for it."""
    table = import_module(f"{_EXPORTER}._decomp")  # loads onnxscript
    registry = import_module(f"{_EXPORTER}._registration").ONNXRegistry.from_torchlib(opset)
    known = set(table.get_onnx_implemented_overloads(registry))
    found: dict[Any, Callable[..., Any]] = table.create_onnx_friendly_decomposition_table(known)
    return found


def mark_decomposed(program: ExportedProgram) -> None:
    """Say that these decompositions have been made: ``_decomposed_once`` believes it."""
    program.graph_module.meta[_DECOMPOSED] = True


@contextlib.contextmanager
def _decomposed_once() -> Iterator[None]:
    """Let dynamo's exporter take a program as it is, where its own pass would find nothing to do.

    So it is with a marked one, and with one whose operators all have functions of ONNX. The pass
    traces the whole program again: half of what a small export to ONNX takes.
    """
    passes = import_module(f"{_EXPORTER}._fx_passes")  # loads onnxscript
    own = passes.decompose_with_registry

    def decompose(program: ExportedProgram, registry: Any) -> ExportedProgram:
        is_done = program.graph_module.meta.get(_DECOMPOSED) or _is_of_onnx(program, registry)
        found: ExportedProgram = program if is_done else own(program, registry)
        quotients.write_out(found)
        quotients.floor_negative(found)  # nothing traces it again
        complex_parts.measure(found)
        return found

    with mock.patch.object(passes, "decompose_with_registry", decompose):
        yield


def _is_of_onnx(program: ExportedProgram, registry: Any) -> bool:
    """Whether each operator has a function of ONNX, and none writes to what it is given."""
    known = set(import_module(f"{_EXPORTER}._decomp").get_onnx_implemented_overloads(registry))
    return all(
        node.op in ("placeholder", "output")
        or (node.op == "get_attr" and isinstance(getattr(part, str(node.target)), GraphModule))
        or (node.op == "call_function" and _stays(node.target, known))
        for part in parts(program.graph_module)
        for node in part.graph.nodes
    )


def _stays(target: Any, known: set[Any]) -> bool:
    """Whether torch would leave an operator as it is, or drop it behind the pass."""
    if not isinstance(target, OpOverload):  # ``operator.mul`` of sizes, or a branch
        return isinstance(target, BuiltinFunctionType) or target in (cond_op, torch.sym_ite)
    utils = import_module("torch._export.utils")  # loads the exporter
    is_kept = not utils._is_cia_op(target) or utils._is_preservable_cia_op(target)
    return target in _ASSERTIONS or (target in known and is_kept and not target._schema.is_mutable)


@contextlib.contextmanager
def _outputs_of_their_dtype() -> Iterator[None]:
    """Let dynamo's exporter give back a sum of float16 as one.

    It adds up in float32, and gives back what is behind that by the name that the signature has, so
    that an output is the sum itself (torch 2.13).
    """
    passes = import_module(f"{_EXPORTER}._fx_passes")  # loads onnxscript
    own = passes.insert_type_promotion_nodes

    def promoted(graph_module: GraphModule) -> None:
        before = graph_module.graph.output_node().all_input_nodes
        own(graph_module)
        after = graph_module.graph.output_node().all_input_nodes
        for node, cast in zip(before, after, strict=True):
            if cast is not node:
                node.name, cast.name = cast.name, node.name

    with mock.patch.object(passes, "insert_type_promotion_nodes", promoted):
        yield


@contextlib.contextmanager
def _values_as_they_are() -> Iterator[None]:
    """Let dynamo's exporter look for casts without computing again what needs none.

    It computes the whole program, and a branch that is given what was chosen by values fails there:
    "Expected Proxy, got [Proxy(arg0_1), ..." (torch 2.13).
    """
    promotion = import_module("torch.onnx._internal.fx.passes.type_promotion")  # loads the exporter
    interpreter = promotion._TypePromotionInterpreter
    own = interpreter.run_node

    def run(self: Any, node: Node) -> Any:
        is_known = node.op == "call_function" and "val" in node.meta
        if is_known and promotion.get_type_promotion_rule(node, self.type_promotion_table) is None:
            return value_of(node)
        return own(self, node)

    with mock.patch.object(interpreter, "run_node", run):
        yield


@contextlib.contextmanager
def rules_of_the_operator() -> Iterator[None]:
    """Let dynamo's exporter try at a node the rules of its operator alone.

    onnxscript tries all 46 at each, and one of them lists all nodes first, which took 15 of 37 s
    where 1,137 are left (0.7.2). What is left out would have failed at its first question.
    """
    rule = import_module("onnxscript.rewriter").RewriteRule  # loads onnxscript
    own = rule.try_rewrite

    def tried(self: Any, model: Any, graph: Any, node: Any, **options: Any) -> Any:
        if self._target_pattern.output_nodes[0].op.matches(node.op_type):
            return own(self, model, graph, node, **options)
        return None

    with mock.patch.object(rule, "try_rewrite", tried):
        yield


@contextlib.contextmanager
def _one_version_of_functions() -> Iterator[None]:
    """Let dynamo's exporter inline a branch that is in a loop.

    The function of a loop has the version of ONNX in its domain, that of a branch version 1.
    """
    passes = import_module(f"{_EXPORTER}._ir_passes")  # loads onnxscript
    domain = import_module(f"{_EXPORTER}._constants").LOCAL_FUNCTION_DOMAIN
    own = passes._maybe_set_opset_version

    def versioned(imports: dict[str, int], name: str, version: int | None) -> None:
        own(imports, name, None if name == domain else version)

    with mock.patch.object(passes, "_maybe_set_opset_version", versioned):
        yield


def _is_equal(found: float, expected: float, **_: float) -> bool:
    return found == expected


def spell_as_known(program: ExportedProgram) -> None:
    """Write nodes in words that torch's exporter to ONNX knows (2.13).

    ``item`` is what torch takes it apart to, both bounds of a clamp are floats where one is
    (``x.clamp(1e-6, 1)``), ``arange(-2, 3.0)`` says its dtype, ``mask |= other`` is
    ``bitwise_or_``, and scripted code resizes images to a size as other code does. The stride of a
    contiguous tensor is the product of the sizes behind its axis.
    """
    for node in nodes_of(program.graph_module):
        if node.target is _aten.sym_stride.int:
            _spell_stride(node)
        bounds: Any = node.args[1:]
        node.target = _NAMES.get(node.target, node.target)
        if node.target in _CLAMPS and {*map(type, bounds)} == {int, float}:
            node.args = (node.args[0], *map(float, bounds))
        if node.target is torch.ops.aten.arange.start:
            node.kwargs = {**node.kwargs, "dtype": node.meta["val"].dtype}
        if node.target in _RESIZED and len(node.args) == 2:
            node.target, node.args = _RESIZED[node.target], (*node.args, None)


def _spell_stride(node: Node) -> None:
    of, axis = node.args
    tensor = value_of(of)
    behind = range(axis % tensor.dim() + 1, tensor.dim())
    if behind and always(value_of(node) == math.prod(tensor.shape[each] for each in behind)):
        with node.graph.inserting_before(node):
            sizes = [made(_aten.sym_size.int, of, each) for each in behind]
            node.replace_all_uses_with(
                functools.reduce(functools.partial(made, operator.mul), sizes)
            )


_aten: Any = torch.ops.aten  # operators are made on demand: no types
_RESIZED: Final = {
    _aten.upsample_nearest1d.default: _aten.upsample_nearest1d.vec,
    _aten.upsample_nearest2d.default: _aten.upsample_nearest2d.vec,
    _aten.upsample_nearest3d.default: _aten.upsample_nearest3d.vec,
}
_ASSERTIONS: Final = (
    _aten.sym_constrain_range_for_size.default,
    _aten._assert_async.default,
    _aten._assert_async.msg,
    _aten._assert_scalar.default,
    _aten._assert_tensor_metadata.default,
)
"""What dynamo's exporter drops."""

_NAMES: Final = {_aten.item.default: _aten._local_scalar_dense.default} | {
    getattr(getattr(_aten, f"__i{name}__"), kind): getattr(getattr(_aten, f"bitwise_{name}_"), kind)
    for name in ("and", "or", "xor")
    for kind in ("Tensor", "Scalar")
}
_CLAMPS: Final = (torch.ops.aten.clamp.default, torch.ops.aten.clamp_.default)
