"""TorchScript: script or trace, then freeze."""

import io
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from edgeport import __version__
from edgeport.deploy.compilers.operators import decompositions, quotients
from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.libtorch.session import EXTRA_FILE

from .stored import WRITTEN_BY_THE_WRITER, Compiled, store

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
    from . import special_sizes  # loads sympy

    table = {**torch.export.default_decompositions(), **decompositions.TABLE}
    captured = special_sizes.captured(source, read=False)
    quotients.write_out(captured)
    module = special_sizes.decomposed(captured, table).module(check_guards=False)
    module._forward_pre_hooks.clear()  # it compares symbols, which a trace cannot
    for part in module.modules():
        part.training = False  # eval() is refused: what was captured has one mode
        if isinstance(part, torch.fx.GraphModule):
            _ask_for_sizes(part)
    return _save(source, folder, traced(source, module))


def _ask_for_sizes(part: torch.fx.GraphModule) -> None:
    """A trace follows ``x.shape`` and ``x.expand(n)``, but not the operators behind them."""
    for node in part.graph.nodes:
        node.target = _TRACED.get(node.target, node.target)
    part.recompile()


def _size(x: torch.Tensor, axis: int) -> int:
    return x.shape[axis]


def _slice(x: torch.Tensor, axis: int = 0, *bounds: int | None) -> torch.Tensor:
    return x[(slice(None),) * (axis % x.ndim) + (slice(*(bounds or (None,))),)]


_aten: Any = torch.ops.aten  # operators are made on demand: no types

_TRACED: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.sym_size.int: _size,
    _aten.slice.Tensor: _slice,
    _aten.view.default: torch.Tensor.view,
    _aten.expand.default: torch.Tensor.expand,
    _aten.repeat.default: torch.Tensor.repeat,
    _aten.constant_pad_nd.default: torch.constant_pad_nd,
    _aten.full.default: torch.full,
    _aten.empty.memory_format: torch.empty,
    _aten.empty_permuted.default: torch.empty_permuted,
    _aten.arange.start_step: torch.arange,
    _aten.slice_scatter.default: torch.slice_scatter,
}


def scripted(source: Source, flat: Flat) -> Any:
    """The scripted module behind flat inputs and outputs.

    Those are traced around it: a trace keeps the control flow of scripted code that it calls.
    """
    return traced(source, flat.around(torch.jit.script(flat.module)))


def traced(source: Source, flat: nn.Module) -> Any:
    """A trace of the module with the example."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(  # type: ignore[no-untyped-call]  # torch.jit has no types
            flat, source.example_tensors(), check_trace=False
        )


def _save(source: Source, folder: Path, compiled: Any) -> Compiled:
    """Save with the signature inside, and no path of this machine."""
    if not source.module.training:  # torch freezes nothing else
        compiled = torch.jit.freeze(compiled)
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
