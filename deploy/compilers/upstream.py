"""What compilers need to be told: to be quiet, and that nothing here is trained."""

import contextlib
import ctypes
import functools
import gc
import inspect
import io
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from types import BuiltinFunctionType, SimpleNamespace
from typing import Any, Final
from unittest import mock

import torch
from torch._ops import OpOverload
from torch.autograd.function import _SingleLevelFunction
from torch.distributions import Distribution
from torch.export import ExportedProgram
from torch.fx import GraphModule
from torch.nn.modules import transformer

from edgeport.deploy.compilers.operators import quotients

_EXPORTER: Final = "torch.onnx._internal.exporter"
_DECOMPOSED: Final = "edgeport decomposed"
_NUMBER: Final = "edgeport number"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence a compiler: its warnings, its logs, its prints.

    They are no sign of anything: right traces warn, wrong ones are silent, and the exporters log
    pages before they raise. Parity is asked instead. The module's own warnings were heard when
    the reference ran.
    """
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)


@contextlib.contextmanager
def exact_rewrites() -> Iterator[None]:
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
def exact_numbers() -> Iterator[None]:
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
    """Say that these decompositions have been made: ``decomposed_once`` believes it."""
    program.graph_module.meta[_DECOMPOSED] = True


@contextlib.contextmanager
def decomposed_once() -> Iterator[None]:
    """Let dynamo's exporter take a program as it is, where its own pass would find nothing to do.

    So it is with a marked one, and with one whose operators all have functions of ONNX. The pass
    traces the whole program again: half of what a small export to ONNX takes.
    """
    passes = import_module(f"{_EXPORTER}._fx_passes")  # loads onnxscript
    own = passes.decompose_with_registry

    def decompose(program: ExportedProgram, registry: Any) -> ExportedProgram:
        is_done = program.graph_module.meta.get(_DECOMPOSED) or _is_of_onnx(program, registry)
        found: ExportedProgram = program if is_done else own(program, registry)
        quotients.floor_negative(found)  # nothing traces it again
        return found

    with mock.patch.object(passes, "decompose_with_registry", decompose):
        yield


def _is_of_onnx(program: ExportedProgram, registry: Any) -> bool:
    """Whether each operator has a function of ONNX, and none writes to what it is given."""
    known = set(import_module(f"{_EXPORTER}._decomp").get_onnx_implemented_overloads(registry))
    return all(
        node.op in ("placeholder", "output")
        or (node.op == "call_function" and _stays(node.target, known))
        for node in program.graph.nodes
    )


def _stays(target: Any, known: set[Any]) -> bool:
    """Whether torch would leave an operator as it is, or drop it behind the pass."""
    if not isinstance(target, OpOverload):
        return isinstance(target, BuiltinFunctionType)  # of sizes: ``operator.mul``
    utils = import_module("torch._export.utils")  # loads the exporter
    is_kept = not utils._is_cia_op(target) or utils._is_preservable_cia_op(target)
    return target in _ASSERTIONS or (target in known and is_kept and not target._schema.is_mutable)


@contextlib.contextmanager
def outputs_of_their_dtype() -> Iterator[None]:
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
def operators_listed_once() -> Iterator[None]:
    """Let torch.export ask C++ once which operators it has.

    It asks for each of 27 namespaces, in each pass (2.13): a third of a small export to ONNX.
    """
    utils = import_module("torch._export.utils")  # loads the exporter
    once = functools.cache(utils._materialize_cpp_cia_ops)
    with mock.patch.object(utils, "_materialize_cpp_cia_ops", once):
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
def parts_of_one_version() -> Iterator[None]:
    """Let dynamo's exporter give what is in a branch or a loop one version.

    It calls the body of a loop by the opset's number and a side of a branch by 1, and refuses a
    branch in a loop for that (torch 2.13, onnx_ir 0.1).
    """
    passes = import_module(f"{_EXPORTER}._ir_passes")  # loads onnxscript
    domain = import_module(f"{_EXPORTER}._constants").LOCAL_FUNCTION_DOMAIN
    own = passes._maybe_set_opset_version

    def version(found: dict[str, int], each: str, number: int | None) -> None:
        own(found, each, None if each == domain else number)

    with mock.patch.object(passes, "_maybe_set_opset_version", version):
        yield


@contextlib.contextmanager
def properties_may_raise() -> Iterator[None]:
    """Let torch.jit pass over properties that raise, as a LightningModule's trainer outside of one.

    It reads each attribute of each module before it compiles anything (2.13).
    """
    internal, recursive = map(import_module, ("torch._jit_internal", "torch.jit._recursive"))
    ignored, has_exports = recursive.jit_ignored_properties, internal.module_has_exports

    def exports(module: Any) -> bool:
        names = {*dir(module)} - _raising(module)
        given = {name: getattr(module, name) for name in names if hasattr(module, name)}
        return bool(has_exports(SimpleNamespace(**given)))

    with (
        mock.patch.object(
            recursive, "jit_ignored_properties", lambda module: ignored(module) | _raising(module)
        ),
        mock.patch.object(internal, "module_has_exports", exports),
    ):
        yield


def _raising(module: Any) -> set[str]:
    """Properties, of base classes too, that raise anything but an AttributeError."""
    found = set()
    for name, value in inspect.getmembers_static(type(module)):
        if isinstance(value, property):
            try:
                getattr(module, name, None)
            except Exception:  # the user's code raises anything
                found.add(name)
    return found


def _is_equal(found: float, expected: float, **_: float) -> bool:
    return found == expected


def spell_as_known(program: ExportedProgram) -> None:
    """Write nodes in words that torch's exporter to ONNX knows (2.13).

    Both bounds of a clamp are floats where one is (``x.clamp(1e-6, 1)``), ``arange(-2, 3.0)`` says
    its dtype, ``mask |= other`` is ``bitwise_or_``, and scripted code resizes images to a size as
    other code does.
    """
    for part in program.graph_module.modules():
        if isinstance(part, GraphModule):
            for node in part.graph.nodes:
                bounds = node.args[1:]
                node.target = _NAMES.get(node.target, node.target)
                if node.target in _CLAMPS and {*map(type, bounds)} == {int, float}:
                    node.args = (node.args[0], *map(float, bounds))
                if node.target is torch.ops.aten.arange.start:
                    node.kwargs = {**node.kwargs, "dtype": node.meta["val"].dtype}
                if node.target in _RESIZED and len(node.args) == 2:
                    node.target, node.args = _RESIZED[node.target], (*node.args, None)


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

_NAMES: Final = {
    getattr(getattr(_aten, f"__i{name}__"), kind): getattr(getattr(_aten, f"bitwise_{name}_"), kind)
    for name in ("and", "or", "xor")
    for kind in ("Tensor", "Scalar")
}
_CLAMPS: Final = (torch.ops.aten.clamp.default, torch.ops.aten.clamp_.default)


@contextlib.contextmanager
def inference_only() -> Iterator[None]:
    """Take what only training, or one engine, has out of a module's way while it is compiled.

    A custom autograd function is called by its forward: no format can hold its backward, and
    ``apply`` hides its forward from a trace. Compiled parts run eagerly. Attention takes its
    documented path, not a fused kernel that no format has, and whose answers on a GPU were 135 to
    219 noise floors away (a script is told that it may, whatever was set); ``nn.Transformer`` does
    not look at its mask to see whether it is causal, which is a hint beside the mask. A
    distribution does not look at its arguments to see whether they are valid. ``x.data`` is ``x``:
    without gradients they are one, and whoever follows ``x`` loses it there. ``x.shape.numel()``
    multiplies sizes.
    """
    apply = vars(torch.autograd.Function)["apply"]
    fast = torch.backends.mha.get_fastpath_enabled
    detect = transformer._detect_is_causal_mask
    validate = Distribution._validate_args
    try:
        Distribution.set_default_validate_args(False)
        torch.backends.mha.get_fastpath_enabled = _no_fast_path
        transformer._detect_is_causal_mask = _is_causal
        torch.autograd.Function.apply = classmethod(_forward_of)  # type: ignore[assignment]
        with (
            torch.no_grad(),
            _multiplied_sizes(),
            torch.compiler.set_stance("force_eager"),
            mock.patch.object(torch.Tensor, "data", _DATA, create=True),
            mock.patch.object(_SingleLevelFunction, "apply", _CALL, create=True),
        ):
            yield
    finally:
        torch.autograd.Function.apply = apply  # type: ignore[method-assign]
        torch.backends.mha.get_fastpath_enabled = fast
        transformer._detect_is_causal_mask = detect
        Distribution.set_default_validate_args(validate)


@contextlib.contextmanager
def _multiplied_sizes() -> Iterator[None]:
    """``numel`` of a shape, which makes a number of free and of traced sizes in C (2.13).

    The methods of a type that is written in C are found in its dictionary alone.
    """
    methods: dict[str, Any] = gc.get_referents(vars(torch.Size))[0]
    own = methods["numel"]

    def put(method: Callable[..., Any]) -> None:
        methods["numel"] = method
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(torch.Size))  # what was looked up before

    try:
        put(_product)
        yield
    finally:
        put(own)


def _product(shape: torch.Size) -> int:
    return math.prod(shape)


def _data(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach() if isinstance(tensor, torch.nn.Parameter) else tensor


_DATA: Final[Any] = property(_data, vars(torch._C.TensorBase)["data"].__set__)


def _no_fast_path() -> bool:
    """What a script compiles in place of torch's own, which is True for scripts."""
    return False


def _is_causal(
    mask: torch.Tensor | None, is_causal: bool | None = None, size: int | None = None
) -> bool:
    return is_causal is True


class _Context(torch.autograd.function.FunctionCtx):
    """What forward may write to, and nobody reads."""

    needs_input_grad: tuple[bool, ...] = ()


def _forward_of(function: Any, *args: Any) -> Any:
    if function.setup_context is not torch.autograd.Function.setup_context:
        return function.forward(*args)  # the newer style, whose forward takes no context
    context = _Context()
    context.needs_input_grad = (False,) * len(args)
    return function.forward(context, *args)


_CALL: Final[Any] = classmethod(_forward_of)
"""Where ``apply`` itself looks: ``swish = Swish.apply`` was looked up before."""


def cause(error: BaseException) -> str:
    """The first line of the innermost cause: compilers wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
