"""``.pt2``: programs of torch.export, saved; and each way to one, for other formats too."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch.utils import _pytree as pytree

from edgeport.deploy.sources.source import Source
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.libtorch.session import EXTRA_FILE

from .capture.program import capture, free_kernels
from .operators import fake_quantisation, quotients
from .operators.fx_nodes import nodes_of
from .operators.symbols import SYMBOLS
from .stored import Compiled, store

Save: TypeAlias = Callable[[Source, Path, torch.export.ExportedProgram], Compiled]
"""What becomes of a captured program."""


def export(source: Source, folder: Path, save: Save | None = None) -> Compiled:
    """Capture by running forward on symbols: Python runs as it is.

    Raises:
        Exception: Whatever torch.export raises.
    """
    return _saved(source, folder, capture(source), save)


def oblivious(source: Source, folder: Path, save: Save | None = None) -> Compiled:
    """The same, where sizes of 0 and 1 are not taken as special: broadcasts over a free axis.

    Raises:
        Exception: Whatever torch.export raises.
    """
    from .capture.special_sizes import without_special_sizes  # loads sympy

    return _saved(source, folder, without_special_sizes(partial(capture, source), source), save)


def strict(source: Source, folder: Path, save: Save | None = None) -> Compiled:
    """Capture by reading the bytecode of forward: ``int(x.shape[0] / 2)`` stays free there.

    Raises:
        Exception: Whatever torch.export raises.
    """
    from .capture.special_sizes import first, without_special_sizes  # loads sympy

    read = partial(capture, source, strict=True)
    return _saved(source, folder, first(read, partial(without_special_sizes, read, source)), save)


def script(source: Source, folder: Path, save: Save | None = None) -> Compiled:
    """Convert scripted code, whose branches on values become ``torch.cond``.

    Raises:
        Exception: Whatever torch.jit and torch.export raise.
    """
    from .capture.special_sizes import first, without_special_sizes
    from .scripted.converter import convert  # loads dynamo

    ran = partial(convert, source)
    return _saved(source, folder, first(ran, partial(without_special_sizes, ran, source)), save)


def recorded(source: Source, folder: Path, save: Save | None = None) -> Compiled:
    """Capture one way; of others the file says, where it is run, that it does not have them.

    Raises:
        Exception: Whatever torch.export raises.
    """
    from .capture.recorded import with_values  # loads sympy

    made = with_values(source)
    return made.noted(_saved(source, folder, made.program, save))


def _saved(
    source: Source, folder: Path, program: torch.export.ExportedProgram, save: Save | None
) -> Compiled:
    """Make what was captured fit for a file, and hand it on."""
    if any(node.target in fake_quantisation.TABLE for node in program.graph.nodes):
        with free_kernels():
            program = program.run_decompositions(dict(fake_quantisation.TABLE))
    quotients.write_out(program)
    if save is None:
        quotients.hold(program)
    _forget_unused_symbols(program)
    forget_this_machine(program)
    return (save or _save)(source, folder, program)


def _save(source: Source, folder: Path, program: torch.export.ExportedProgram) -> Compiled:
    """Save with the signature inside, and no path of this machine."""
    buffer = io.BytesIO()
    signature = json.dumps(source.signature.to_json())
    torch.export.save(program, buffer, extra_files={EXTRA_FILE: signature})
    return Compiled(
        Artefact("pt2", source.precision, store(folder, "model.pt2", buffer.getvalue()))
    )


_PRIVATE_NOTES: Final = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn")


def _forget_unused_symbols(program: torch.export.ExportedProgram) -> None:
    """Drop the ranges of symbols that no value has: whoever opens the file would log each."""
    from torch.fx.experimental.symbolic_shapes import free_symbols  # loads sympy

    values: Any = [  # its types know no sizes of tensors
        leaf.shape if isinstance(leaf, torch.Tensor) else leaf
        for node in nodes_of(program.graph_module)
        for leaf in pytree.tree_leaves(node.meta.get("val"))
        if isinstance(leaf, (torch.Tensor, *SYMBOLS))
    ]
    for symbol in program.range_constraints.keys() - free_symbols(values):
        del program.range_constraints[symbol]


def forget_this_machine(program: torch.export.ExportedProgram) -> None:
    """Drop paths and source lines, and the example, which would be written as a pickle."""
    for node in nodes_of(program.graph_module):
        for note in _PRIVATE_NOTES:
            node.meta.pop(note, None)
    program._example_inputs = None  # no public way to leave it out
