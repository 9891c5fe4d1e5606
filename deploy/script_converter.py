"""From TorchScript to an exported program: branches on values become ``torch.cond``.

Torch 2.13 has no public way; its own converter is private, and frees every axis that it can.
This one frees those that are declared.
"""

from typing import Any

import torch
from torch._export.converter import TS2EPConverter

from . import program, torchscript
from .source import Source


def convert(source: Source) -> torch.export.ExportedProgram:
    """Script a module, and convert that.

    Raises:
        Exception: Whatever torch.jit and torch.export raise.
    """
    scripted = torch.jit.freeze(torchscript.scripted(source, source.flat))
    return _Converter(scripted, source).convert()


class _Converter(TS2EPConverter):
    def __init__(self, scripted: Any, source: Source) -> None:
        super().__init__(scripted, source.example_tensors())
        self._dynamic_shapes = program.dynamic_shapes(source)

    def retrace_as_exported_program(
        self, gm: torch.fx.GraphModule, name_to_constant: dict[str, Any]
    ) -> torch.export.ExportedProgram:
        return torch.export.export(
            gm, self.sample_args, dynamic_shapes=self._dynamic_shapes, strict=False
        )
