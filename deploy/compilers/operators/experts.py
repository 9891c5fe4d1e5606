"""Products of rows with the matrix of their expert: ``torch.nn.functional.grouped_mm``.

torch's CPU has it in float32, but its shapes are told for bfloat16 alone (2.13), so that nothing
captures it; ONNX has no such operator. transformers 5 takes an operator of its own in its place
while it is captured, which no device has.
"""

import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from .fx_nodes import parts

GROUPED: Final[Any] = torch.ops.aten._grouped_mm.default

_OF_TRANSFORMERS: Final = "transformers::grouped_mm_fallback"


@contextlib.contextmanager
def known() -> Iterator[None]:
    """The shapes of grouped products are known in every dtype."""
    shapes: Any = import_module("torch._meta_registrations")

    def result(a: Tensor, b: Tensor, *, offs: Any, out_dtype: Any, **_: Any) -> Tensor:
        made: Tensor = shapes._create_grouped_mm_output_tensor(a, b, offs, out_dtype)
        return made

    own = shapes._meta_grouped_mm_common

    def common(a: Tensor, b: Tensor, **options: Any) -> Any:
        is_plain = options.get("scale_a") is None and a.dtype == b.dtype
        return (result if is_plain else own)(a, b, **options)

    with mock.patch.object(shapes, "_meta_grouped_mm_common", common):
        yield


def of_torch(program: torch.export.ExportedProgram) -> None:
    """Put torch's operator, in place, where a library has one of its own."""
    for part in parts(program.graph_module):
        for node in part.graph.nodes:
            is_other = isinstance(node.target, torch._ops.OpOverload)
            if is_other and node.target._schema.name == _OF_TRANSFORMERS:
                node.target = GROUPED
        part.recompile()


def grouped_product(
    rows: Tensor,
    matrices: Tensor,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
) -> Any:
    """Each expert's rows, gathered, multiplied, and put back to their places."""
    if offs is None or bias is not None or rows.dim() != 2 or matrices.dim() != 3:
        return NotImplemented
    expert = (torch.arange(rows.shape[0]).unsqueeze(-1) >= offs).sum(-1)
    found = rows.new_zeros((rows.shape[0], matrices.shape[-1]))
    for number in range(matrices.shape[0]):
        (own,) = torch.where(expert == number)
        found = found.index_copy(0, own, rows[own] @ matrices[number])
    return found.to(out_dtype or rows.dtype)
