"""ONNX, by torch's exporter of what torch.export captures."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from edgeport.deploy.compilers.capture import program
from edgeport.deploy.compilers.operators import (
    complex_parts,
    decompositions,
    exact_resizing,
    exact_spectra,
    exact_sums,
)
from edgeport.deploy.compilers.operators.fx_nodes import nodes_of
from edgeport.deploy.compilers.stored import Compiled
from edgeport.deploy.compilers.targets import OnnxRequest
from edgeport.deploy.compilers.warm import operators_kept
from edgeport.deploy.sources.source import Source

from . import constant_folding, size_floats
from .onnx_graph import finish
from .onnx_upstream import mark_decomposed, mended, onnx_decompositions, spell_as_known
from .recurrent_steps import write_out_steps
from .sigmoids import write_out_inner_sigmoids

Table: TypeAlias = Mapping[Any, Callable[..., Any]]


_EXACT: Final[Table] = {**exact_sums.TABLE, **exact_resizing.TABLE, **exact_spectra.TABLE}

_STEPPED: Final[Mapping[Any, str]] = {
    torch.ops.aten.lstm.input: "LSTM",
    torch.ops.aten.gru.input: "GRU",
}
"""Layers that can be written out, and their ONNX operators."""


def dynamo(source: Source, folder: Path, request: OnnxRequest) -> Compiled:
    """Export what torch.export captures.

    Raises:
        Exception: Whatever torch.onnx raises.
    """
    return _of_program(source, folder, request, _captured)


def _of_program(
    source: Source,
    folder: Path,
    request: OnnxRequest,
    capture: Callable[[Source], torch.export.ExportedProgram],
    exact: Table | None = None,
    *,
    steps: bool = False,
) -> Compiled:
    """Export a program.

    Args:
        source: The module.
        folder: Where the file is written.
        request: The opset and the IR version.
        capture: Makes the program.
        exact: Operators that are written out, and what takes their place.
        steps: Whether LSTM and GRU are written out, too.
    """
    from edgeport.deploy.compilers.capture import one_way  # loads sympy

    translations: dict[Any, Any] = {round: size_floats.rounded, one_way.ONLY_IF: one_way.in_onnx}
    with program.free_kernels(), operators_kept(), mended():
        made = torch.onnx.export(
            _in_operators_of_onnx(capture(source), exact, request.written_opset, steps=steps),
            source.example_tensors(),
            input_names=[spec.name for spec in source.signature.inputs],
            output_names=[spec.name for spec in source.signature.outputs],
            dynamic_shapes=(tuple(_free_axes(spec.shape) for spec in source.signature.inputs),),
            opset_version=request.written_opset,
            dynamo=True,
            verbose=False,
            custom_translation_table=translations,
        )
    if made is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    size_floats.widen(made.model.graph)
    one_way.name(made.model.graph)
    _name_apart(made.model.graph)
    _forget_unused(made.model.graph)
    model = made.model_proto
    if steps:
        for operator in _STEPPED.values():
            write_out_steps(model, operator)
        write_out_inner_sigmoids(model)
    return finish(model, source, request, folder)


def written_out(source: Source, folder: Path, request: OnnxRequest) -> Compiled:
    """The same, without kernels that are less exact: of sums, resized images and spectra.

    Raises:
        Exception: Whatever torch.onnx raises, or that there is nothing to write out.
    """
    return _of_program(source, folder, request, _captured, _EXACT)


def steps_written_out(source: Source, folder: Path, request: OnnxRequest) -> Compiled:
    """The same, and without the kernels of LSTM and GRU, whose sigmoids are exact to 6e-8.

    Raises:
        Exception: Whatever torch.onnx raises, or that there is no such layer.
    """
    return _of_program(source, folder, request, _captured, _EXACT, steps=True)


def converted(source: Source, folder: Path, request: OnnxRequest) -> Compiled:
    """Export scripted code as an exported program, in which loops and branches are operators.

    Raises:
        Exception: Whatever torch.jit, torch.export and torch.onnx raise.
    """
    return _of_program(source, folder, request, _of_script)


def recorded(source: Source, folder: Path, request: OnnxRequest) -> Compiled:
    """Export one way through forward; the file refuses what takes another.

    Raises:
        Exception: Whatever torch.export and torch.onnx raise.
    """
    from edgeport.deploy.compilers.capture.one_way import guarded  # loads sympy
    from edgeport.deploy.compilers.capture.recorded import with_values

    made = with_values(source)
    return made.noted(_of_program(source, folder, request, lambda _: guarded(made.program)))


def trace(source: Source, folder: Path, request: OnnxRequest) -> Compiled:
    """Export what a trace did, with its numbers; parity tells whether it holds for other inputs.

    Raises:
        Exception: Whatever torch.jit, torch.export and torch.onnx raise.
    """
    return _of_program(source, folder, request, _traced)


def _name_apart(graph: Any) -> None:
    """Rename values within that are called as an input or output is: the exporter does not look.

    With torch 2.13 an input ``t`` had the name of the first weight that was transposed.
    """
    ends = (*graph.inputs, *graph.outputs)
    names = {value.name for value in ends}
    made = (value for node in graph.all_nodes() for value in node.outputs)
    for value in (*graph.initializers.values(), *made):
        if value.name in names and all(value is not end for end in ends):
            value.name = f"{value.name}_within"


def _forget_unused(graph: Any) -> None:
    """Forget the shapes of what nothing uses.

    Of an LSTM whose last state alone is used, the exporter gives that of the state to the output.
    """
    for node in graph.all_nodes():
        for value in node.outputs:
            if not value.uses() and not value.is_graph_output():
                value.shape = None


def _captured(source: Source) -> torch.export.ExportedProgram:
    from edgeport.deploy.compilers.capture import special_sizes  # loads sympy
    from edgeport.deploy.compilers.capture.one_way import guarded

    return guarded(special_sizes.captured(source), of_numbers=False)


def _traced(source: Source) -> torch.export.ExportedProgram:
    from edgeport.deploy.compilers.capture import special_sizes  # loads sympy
    from edgeport.deploy.compilers.scripted.converter import convert_trace  # loads dynamo

    return special_sizes.with_or_without(partial(convert_trace, source), source)


def _of_script(source: Source) -> torch.export.ExportedProgram:
    from edgeport.deploy.compilers.capture import special_sizes  # loads sympy
    from edgeport.deploy.compilers.capture.one_way import guarded
    from edgeport.deploy.compilers.scripted.converter import convert  # loads dynamo

    return guarded(special_sizes.with_or_without(partial(convert, source), source))


def _in_operators_of_onnx(
    captured: torch.export.ExportedProgram, exact: Table | None, opset: int, *, steps: bool
) -> torch.export.ExportedProgram:
    """A program with what ONNX lacks written otherwise.

    Args:
        captured: It is changed.
        exact: What to write otherwise as well, and of which there has to be some.
        opset: Of ONNX.
        steps: Whether there have to be recurrent layers instead.

    Raises:
        RuntimeError: There is none.
    """
    constant_folding.fold(captured)
    spell_as_known(captured)
    nodes = [*nodes_of(captured.graph_module)]
    by_parts = complex_parts.table(nodes)
    table = {**decompositions.ONNX_TABLE, **by_parts}
    if exact:
        used: list[Any] = []
        noting = _noting(exact, used)
        both = {each: _either(table[each], noting[each]) for each in table.keys() & exact.keys()}
        table = {**table, **noting, **both}
        captured = _decomposed(captured, table, opset)
        if not (any(node.target in _STEPPED for node in nodes) if steps else used):
            raise RuntimeError("there is nothing in it that this route writes otherwise")
    elif by_parts or any(map(decompositions.applies, nodes)):
        captured = _decomposed(captured, table, opset)
    constant_folding.fold(captured)  # what is solved with now
    return captured


def _decomposed(
    captured: torch.export.ExportedProgram, table: Table, opset: int
) -> torch.export.ExportedProgram:
    """Decompose by a table and, in the same pass, as torch's exporter will, which saves a pass."""
    from edgeport.deploy.compilers.capture import special_sizes  # loads sympy

    by_torch = onnx_decompositions(opset)
    both = {op: _either(table[op], by_torch[op]) for op in table.keys() & by_torch.keys()}
    found = special_sizes.decomposed(captured, {**by_torch, **table, **both})
    mark_decomposed(found)
    return found


def _either(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    """The one that covers what it is given."""

    def either(*args: Any, **options: Any) -> Any:
        found = first(*args, **options)
        return second(*args, **options) if found is NotImplemented else found

    return either


def _noting(table: Table, used: list[Any]) -> Table:
    """The same functions; each result that is used is noted."""

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **options: Any) -> Any:
            found = function(*args, **options)
            if found is not NotImplemented:
                used.append(function)
            return found

        return noted

    return {operator: noting(function) for operator, function in table.items()}


def _free_axes(shape: tuple[int | str, ...]) -> dict[int, str]:
    return {axis: size for axis, size in enumerate(shape) if isinstance(size, str)}
