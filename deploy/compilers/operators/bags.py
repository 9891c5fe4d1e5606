"""Bags of embeddings as sums by index: the exporter writes a loop over bags, and a list of them."""

import math
from typing import Any, Final

import torch
from torch import Tensor

_aten: Any = torch.ops.aten  # operators are made on demand: no types

_MEAN, _MAX = 1, 2


def bags(
    weight: Tensor,
    indices: Tensor,
    offsets: Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = -1,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As ``aten.embedding_bag``, of whose outputs torch's functions give the first alone.

    Args:
        weight: (V, D)
        indices: (N,)
        offsets: Where each of B bags begins, first 0; with ``include_last_offset`` (B + 1,).
        scale_grad_by_freq: Of gradients.
        mode: Sum, mean or max.
        sparse: Of gradients.
        per_sample_weights: (N,), of sums.
        include_last_offset: Whether the last one is where the last bag ends.
        padding_idx: Of what is in no bag.
    """
    begins = offsets[:-1] if include_last_offset else offsets
    begun = torch.zeros(indices.shape[0] + 1, dtype=torch.int64)
    begun = begun.scatter_add(0, begins.long(), torch.ones_like(begins, dtype=torch.int64))
    bag = begun[:-1].cumsum(0) - 1  # (N,)
    is_in = torch.ones_like(indices, dtype=torch.bool)
    if include_last_offset:
        is_in = torch.arange(indices.shape[0]) < offsets[-1]
    if padding_idx is not None and padding_idx >= 0:
        is_in = is_in & (indices != padding_idx)
    rows = weight.index_select(0, indices)  # (N, D)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    count = torch.zeros_like(begins, dtype=torch.int64).index_add(0, bag, is_in.long())
    shape = (begins.shape[0], weight.shape[1])
    if mode == _MAX:
        rows = torch.where(is_in.unsqueeze(-1), rows, -math.inf)
        least = torch.full(shape, -math.inf, dtype=weight.dtype)
        found = least.scatter_reduce(0, bag.unsqueeze(-1).expand(rows.shape), rows, "amax")
        return torch.where(count.unsqueeze(-1) > 0, found, 0.0), bag, count, count
    rows = torch.where(is_in.unsqueeze(-1), rows, 0.0)
    found = torch.zeros(shape, dtype=weight.dtype).index_add(0, bag, rows)
    if mode == _MEAN:
        found = found / count.clamp(min=1).unsqueeze(-1)
    return found, bag, count, count


TABLE: Final = dict.fromkeys(
    (
        _aten.embedding_bag.default,
        _aten.embedding_bag.padding_idx,
        _aten._embedding_bag.default,
        _aten._embedding_bag_forward_only.default,
    ),
    bags,
)
