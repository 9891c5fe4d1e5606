"""Exported programs: ``torch.export`` to ``.pt2``."""

import io
import json

import torch

from edgeport.runtimes import ExportError
from edgeport.runtimes.torch_calls import EXTRA_FILE

from .source import Source
from .upstream import cause, quiet

_PRIVATE_NOTES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn")


def compile_program(source: Source) -> bytes:
    """Compile to an exported program, with the signature inside and no path of this machine.

    Raises:
        ExportError: Torch refused the module, or fixed a dimension that was declared free.
    """
    try:
        with quiet():
            program = torch.export.export(
                source.copy_module(),
                source.example_tensors(),
                dynamic_shapes=_dynamic_shapes(source),
                strict=False,
            )
            _forget_this_machine(program)
            buffer = io.BytesIO()
            signature = json.dumps(source.signature.to_json())
            torch.export.save(program, buffer, extra_files={EXTRA_FILE: signature})
    except Exception as e:  # torch.export raises a dozen kinds
        raise ExportError(
            f"pt2: torch.export refuses {type(source.module).__name__}: {cause(e)}",
            remedy="leave this format out with --format, or see the traceback with --debug",
        ) from e
    return buffer.getvalue()


def _dynamic_shapes(source: Source) -> tuple[dict[int, object], ...]:
    dims = {
        name: torch.export.Dim(
            name,
            min=source.signature.range_of(name).min,
            max=source.signature.range_of(name).max,
        )
        for name in source.signature.dimensions
    }
    return tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)}
        for spec in source.signature.inputs
    )


def _forget_this_machine(program: torch.export.ExportedProgram) -> None:
    """Drop paths and source lines, and the example, which would be written as a pickle."""
    for graph_module in program.graph_module.modules():
        if isinstance(graph_module, torch.fx.GraphModule):
            for node in graph_module.graph.nodes:
                for note in _PRIVATE_NOTES:
                    node.meta.pop(note, None)
    program._example_inputs = None  # no public way to leave it out
