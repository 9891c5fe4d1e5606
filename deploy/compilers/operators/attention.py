"""``scaled_dot_product_attention``, written out where torch's ONNX exporter is wrong (2.13)."""

import math
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from .fx_nodes import arguments, value_of

_EXPORTED_RANK: Final = 4


def applies(node: Node) -> bool:
    """Whether torch's exporter would refuse it, or get it wrong."""
    given = arguments(node)
    return given["attn_mask"] is not None or value_of(given["query"]).dim() != _EXPORTED_RANK


def of_other_ranks(query: Tensor, *args: Any, **options: Any) -> Any:
    """Attention of other than four axes: torch's exporter takes no such queries."""
    return (
        NotImplemented if query.dim() == _EXPORTED_RANK else _written_out(query, *args, **options)
    )


def with_masks(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *rest: Any, **options: Any
) -> Any:
    """Attention with a mask too: of a row with all hidden the exporter makes NaN, and torch 0."""
    attend = of_other_ranks if attn_mask is None else _written_out
    return attend(query, key, value, attn_mask, *rest, **options)


def _written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if dropout_p:
        return NotImplemented
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(groups, -3) for each in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.transpose(-1, -2) * factor
    hidden: Tensor | None = None
    if is_causal:  # beside a mask too: torch takes both on a CPU
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, -math.inf)
    if attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        closed = ~attn_mask if is_bool else attn_mask == -math.inf
        scores = scores.masked_fill(closed, -math.inf) if is_bool else scores + attn_mask
        hidden = closed if hidden is None else hidden | closed
    weights = scores.softmax(-1)
    if hidden is not None:  # all of a row: nothing to attend to
        weights = torch.where(hidden.all(-1, keepdim=True), 0, weights)
    found = weights @ value
    by_rows = query.dim() == _EXPORTED_RANK and statically_known_true(
        query.stride(1) < query.stride(2)
    )
    if by_rows:  # as after .view(rows, time, heads, -1).transpose(1, 2): torch answers in its order
        found = found.transpose(1, 2).contiguous().transpose(1, 2)
    return found
