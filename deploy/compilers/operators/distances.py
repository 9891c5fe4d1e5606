"""Distances between rows: torch's own fix how many there are."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

_arange: Any = torch.arange  # its types know no free sizes


def cdist(
    x: Tensor, y: Tensor, p: float = 2.0, compute_mode: str | None = None
) -> Tensor:  # as torch.cdist
    """Distances between rows, without the fast path that fixes how many rows there are."""
    return _length(x.unsqueeze(-2) - y.unsqueeze(-3), p)  # (..., P, R, M)


def cdist_forward(x: Tensor, y: Tensor, p: float, compute_mode: int | None) -> Tensor:
    """As ``aten._cdist_forward``."""
    return cdist(x, y, p)


def pdist(x: Tensor, p: float = 2.0) -> Tensor:
    """As ``aten.pdist``: of each row and all behind it, in one line."""
    rows: Any = x.shape[0]
    count = rows * (rows - 1) // 2
    pair = _arange(count + 1)  # one too many, as ONNX Runtime adds up none wrongly ...
    x = pad(x, (0, 0, 0, 1))  # ... and one row, as there may be none
    behind = (count - 1 - pair).clamp(min=0)
    triangle = ((8 * behind + 1).double().sqrt() - 1) / 2  # exact to 2^52
    left = (rows - 2 - triangle.floor().long()).clamp(min=0)
    right = (pair + left + 1 - left * (2 * rows - left - 1) // 2).clamp(max=rows)
    found = _length(x.index_select(0, left) - x.index_select(0, right), p)
    return found.narrow(0, 0, count)


def _length(apart: Tensor, p: float) -> Tensor:
    """The norm along the last axis."""
    apart = apart.abs()
    if p == 0:
        return (apart != 0).to(apart.dtype).sum(-1)
    if math.isinf(p):
        return apart.amax(-1)
    if p == 1:
        return apart.sum(-1)
    return apart.square().sum(-1).sqrt() if p == 2 else apart.pow(p).sum(-1).pow(1 / p)
