"""TorchScript: script or trace, then freeze."""

import contextlib
import io
import json
import math
import operator
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.overrides import TorchFunctionMode

from edgeport import __version__
from edgeport.deploy.compilers.operators import decompositions, quotients
from edgeport.deploy.compilers.operators.fx_nodes import parts
from edgeport.deploy.compilers.operators.symbols import SYMBOLS
from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.libtorch.session import EXTRA_FILE

from . import traced_branches
from .capture import program
from .scripted import differences, interpreted, like_python, rewriting
from .scripted.overlooked import overlooks_nothing
from .stored import WRITTEN_BY_THE_WRITER, Compiled, store
from .upstream import properties_may_raise

PRODUCER_FILE: Final = "edgeport.producer.json"
"""Under this name the archive says what made it."""


def script(source: Source, folder: Path) -> Compiled:
    """Compile the module's code, which keeps its control flow.

    Raises:
        Exception: Whatever torch.jit raises.
    """
    return _save(source, folder, scripted(source, source.flat))


def trace(source: Source, folder: Path) -> Compiled:
    """Record what the module does with the example; parity tells whether that holds for others.

    Raises:
        Exception: Whatever torch.jit raises.
    """
    return _save(source, folder, traced(source, source.flat))


def exported(source: Source, folder: Path) -> Compiled:
    """Record what torch.export captured, in core operators: without Python that a trace dislikes.

    Raises:
        Exception: Whatever torch.export and torch.jit raise.
    """
    from .capture import special_sizes  # loads sympy
    from .capture.one_way import guarded

    captured = special_sizes.captured(source, read=False)
    return _of_program(source, folder, guarded(captured, of_numbers=False))


def recorded(source: Source, folder: Path) -> Compiled:
    """The same of one way through forward, with its sizes free, which a trace has as numbers.

    Its file refuses what takes another way.

    Raises:
        Exception: Whatever torch.export and torch.jit raise.
    """
    from .capture.one_way import guarded  # loads sympy
    from .capture.recorded import with_values

    made = with_values(source)
    return made.noted(_of_program(source, folder, guarded(made.program)))


def _of_program(source: Source, folder: Path, captured: ExportedProgram) -> Compiled:
    from .capture import one_way, special_sizes  # loads sympy

    traced_as = {**_TRACED, one_way.ONLY_IF: traced_branches.only_if}
    table = {**torch.export.default_decompositions(), **decompositions.TABLE}
    for layer in _WHOLE:
        table.pop(layer, None)
    quotients.write_out(captured)
    with program.free_kernels():
        module = special_sizes.decomposed(captured, table).module(check_guards=False)
    module._forward_pre_hooks.clear()  # it compares symbols, which a trace cannot
    for layer in module.modules():
        layer.training = False  # eval() is refused: what was captured has one mode
    for part in parts(module):
        _ask_for_sizes(part, traced_as)
    with _tracing():
        traced_branches.keep_branches(module, source.example_tensors())
    return _save(source, folder, traced(source, module))


def _ask_for_sizes(part: torch.fx.GraphModule, traced_as: Mapping[Any, Callable[..., Any]]) -> None:
    """A trace follows ``x.shape`` and ``x.expand(n)``, but not the operators behind them.

    A number that is made of sizes is a tensor there, and Python's in float64, of which elements of
    another dtype take their own.
    """
    for node in part.graph.find_nodes(op="call_function", target=_aten._assert_scalar.default):
        part.graph.erase_node(node)  # of what is asserted of values, outputs hang already
    part.graph.eliminate_dead_code()
    for node in part.graph.nodes:
        if _is_pointwise(node):
            with part.graph.inserting_before(node):
                for number in filter(_is_float, node.all_input_nodes):
                    rounded = part.graph.call_function(_number, (number,), _dtype_beside(node))
                    rounded.meta = number.meta
                    node.replace_input_with(number, rounded)
        node.target = traced_as.get(node.target) or _by_name(node)
    part.recompile()


def _is_pointwise(node: torch.fx.Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and torch.Tag.pointwise in target.tags


def _dtype_beside(node: torch.fx.Node) -> dict[str, Any]:
    """That of the elements which a number meets, if they are floats.

    float16 meets float32, as in torch's kernels: 70,000 is Inf in float16. Only of a tensor without
    axes the result would be float32.
    """
    for value in (each.meta["val"] for each in node.all_input_nodes):
        if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
            own = value.dtype.to_real()
            return {"dtype": torch.promote_types(own, torch.float32) if value.dim() else own}
    return {}


def _by_name(node: torch.fx.Node) -> Any:
    """Torch's own function in place of an operator that is given a free size."""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload) and any(map(_is_size, node.all_input_nodes)):
        name = target._schema.name.removeprefix("aten::")
        return getattr(_nn, name, getattr(torch, name, target))
    return target


def _is_size(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), SYMBOLS)


def _is_float(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymFloat)


def _size(x: torch.Tensor, axis: int) -> int:
    return x.shape[axis]


def _least(*numbers: Any) -> torch.Tensor:
    return torch.minimum(*map(_exact, numbers))


def _most(*numbers: Any) -> torch.Tensor:
    return torch.maximum(*map(_exact, numbers))


def _exact(number: Any) -> torch.Tensor:
    return _double(number) if isinstance(number, float) else torch.as_tensor(number)


def _slice(
    x: torch.Tensor, axis: int = 0, start: Any = None, end: Any = None, step: Any = None
) -> torch.Tensor:
    return x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]


def _value(x: torch.Tensor) -> torch.Tensor:
    """As a number of Python's."""
    return x.double() if x.is_floating_point() else x


def _double(number: Any) -> torch.Tensor:
    return _number(number, dtype=torch.float64)


def _chosen(condition: Any, one: Any, other: Any) -> torch.Tensor:
    return torch.where(torch.as_tensor(condition), one, other)


def _not(condition: Any) -> torch.Tensor:
    return torch.as_tensor(condition).logical_not()


def _square_root(size: Any) -> torch.Tensor:
    return _double(size).sqrt()


def _quotient(over: Any, by: Any) -> torch.Tensor:
    return _double(over) / _double(by)


def _whole(rounds: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], torch.Tensor]:
    return lambda number: rounds(_double(number)).long()


def _nearest(number: Any, digits: int | None = None) -> torch.Tensor:
    """As ``round``, to an even one in the middle."""
    if digits is not None:
        raise NotImplementedError("a number that is made of sizes is rounded to whole ones alone")
    return _double(number).round().long()


def _clamp(x: torch.Tensor, *bounds: Any) -> torch.Tensor:
    if any(isinstance(bound, torch.Tensor) for bound in bounds):
        bounds = tuple(None if bound is None else torch.as_tensor(bound) for bound in bounds)
    return torch.clamp(x, *bounds)


def _number(size: Any, *, dtype: torch.dtype | None = None, **_: Any) -> torch.Tensor:
    return torch.as_tensor(size, dtype=dtype or torch.get_default_dtype())


_nn: Any = import_module("torch._C._nn")
_aten: Any = torch.ops.aten  # operators are made on demand: no types

_WHOLE: Final = (
    _aten.linear.default,
    *(_aten.lstm.input, _aten.gru.input, _aten.rnn_tanh.input, _aten.rnn_relu.input),
    *(_aten.lstm.data, _aten.gru.data, _aten.rnn_tanh.data, _aten.rnn_relu.data),
)
"""What is not taken apart: recurrent layers have as many steps as the example then; and torch.jit
takes the first size of ``addmm`` for that of its bias, where weights are constants (2.13)."""

_sym_sqrt: Any = torch._sym_sqrt  # type: ignore[attr-defined]  # made on import
_TRACED: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.sym_size.int: _size,
    _aten.slice.Tensor: _slice,
    _aten.view.default: torch.Tensor.reshape,  # a kernel's own strides need not be those told
    _aten.expand.default: torch.Tensor.expand,
    _aten.repeat.default: torch.Tensor.repeat,
    _aten.constant_pad_nd.default: torch.constant_pad_nd,
    _aten.full.default: torch.full,
    _aten.empty.memory_format: torch.empty,
    _aten.empty_permuted.default: torch.empty_permuted,
    _aten.arange.start_step: torch.arange,
    _aten.slice_scatter.default: torch.slice_scatter,
    _aten.clamp.default: _clamp,
    _aten.scalar_tensor.default: _number,
    _aten._local_scalar_dense.default: _value,
    torch.sym_float: _double,
    operator.truediv: _quotient,
    math.trunc: _whole(torch.trunc),
    math.floor: _whole(torch.floor),
    math.ceil: _whole(torch.ceil),
    round: _nearest,
    _sym_sqrt: _square_root,
    torch.sym_min: _least,
    torch.sym_max: _most,
    torch.sym_ite: _chosen,
    torch.sym_not: _not,
}


def scripted(source: Source, flat: Flat) -> Any:
    """The scripted module behind flat inputs and outputs; its code is rewritten if it has to be.

    Those are traced around it: a trace keeps the control flow of scripted code that it calls.

    Raises:
        Exception: Whatever torch.jit raises.
    """
    try:
        return _scripted(source, flat)
    except Exception:  # torch.jit raises a dozen kinds
        with contextlib.suppress(Exception), rewriting.rewritten(flat.module):
            return _scripted(source, flat)
        raise


def _scripted(source: Source, flat: Flat) -> Any:
    with properties_may_raise(), overlooks_nothing(flat.module), rewriting.scripted_anew():
        made = torch.jit.script(flat.module)
    if made is not flat.module:  # of a script, eager computes what it does
        differences.check(made)
        if not interpreted.holds_scripts(source.module):
            like_python.write_out(made)
        interpreted.written_out(made)
    return traced(source, flat.around(made))


def traced(source: Source, flat: nn.Module) -> Any:
    """A trace of the module with the example."""
    with _tracing():
        made = torch.jit.trace(  # type: ignore[no-untyped-call]  # torch.jit has no types
            flat, source.example_tensors(), check_trace=False
        )
    return made if interpreted.holds_scripts(source.module) else interpreted.written_out(made)


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    with torch.no_grad(), warnings.catch_warnings(), properties_may_raise(), _NoFlags():
        warnings.simplefilter("ignore")
        yield


class _NoFlags(TorchFunctionMode):
    """While it is entered, a trace may meet ``True`` and ``False`` as numbers.

    It asserts that there is no such operator (2.13). As a tensor without axes they promote alike.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        named = dict(kwargs or {})
        name = func.__name__.partition(".")[0]
        if name in _FILLING:
            *before, value = [*args, named.pop("fill_value", None)][: _FILLING[name] + 1]
            if name == "full" and isinstance(value, bool):
                named["dtype"] = named.get("dtype") or torch.bool
            return func(*before, int(value) if isinstance(value, bool) else value, **named)
        if name in _WITH_NUMBERS and any(isinstance(arg, bool) for arg in args):
            func = getattr(func, "overloadpacket", func)
            args = [torch.tensor(arg) if isinstance(arg, bool) else arg for arg in args]
        return func(*args, **named)


_FILLING: Final = {"full": 1, "new_full": 2, "full_like": 1}
"""Where the value stands."""

_WITH_NUMBERS: Final = {
    *("where", "fill", "fill_", "masked_fill", "masked_fill_", "index_fill", "index_fill_"),
    *("eq", "ne", "__eq__", "__ne__", "__and__", "__or__", "__xor__", "__rand__", "__ror__"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "logical_and", "logical_or"),
    *("add", "sub", "mul", "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__"),
}


def _save(source: Source, folder: Path, compiled: Any) -> Compiled:
    """Save with the signature inside, and no path of this machine."""
    if not source.module.training:  # torch freezes nothing else
        compiled = torch.jit.freeze(compiled)
        _store_apart(compiled.graph)
    buffer = io.BytesIO()
    torch.jit.save(
        compiled,
        buffer,
        _extra_files={
            EXTRA_FILE: json.dumps(source.signature.to_json()),
            PRODUCER_FILE: json.dumps({"producer": "edgeport", "version": __version__}),
        },
    )
    data = without_debug_records(buffer.getvalue())
    return Compiled(Artefact("torchscript", source.precision, store(folder, "model.ts", data)))


def _store_apart(graph: Any) -> None:
    """Copy constants that share memory with others: a view of a weight as complex numbers.

    A file holds memory once, and as the dtype of what was there first (torch 2.13): the other is
    read from the wrong places.
    """
    dtypes: dict[int, set[torch.dtype]] = defaultdict(set)
    constants = [
        (node, node.t("value"))
        for node in graph.findAllNodes("prim::Constant")
        if node.hasAttribute("value") and node.kindOf("value") == "t"
    ]
    for _, constant in constants:
        dtypes[constant.untyped_storage().data_ptr()].add(constant.dtype)
    for node, constant in constants:
        if len(dtypes[constant.untyped_storage().data_ptr()]) > 1:
            node.t_("value", constant.clone())


def without_debug_records(archive: bytes) -> bytes:
    """Copy the archive without its ``.debug_pkl`` records, which hold paths and source text.

    Its version stays: by it, torch takes the operators in it for those of that time, and knows no
    ``gelu(approximate="tanh")`` before 9.
    """
    reader = torch._C.PyTorchFileReader(io.BytesIO(archive))
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    records = reader.get_all_records()
    version = next(record for record in records if record in (".data/version", "version"))
    writer.set_min_version(int(reader.get_record(version)))
    for record in records:
        if not record.endswith(".debug_pkl") and record not in WRITTEN_BY_THE_WRITER:
            data = reader.get_record(record)
            writer.write_record(record, data, len(data))
    writer.write_end_of_file()
    return buffer.getvalue()
