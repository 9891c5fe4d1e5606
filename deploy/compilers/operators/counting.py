"""How often a value occurs: membership, histograms, and what occurs most; sums of whole numbers."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from .ordering import without_nan


def is_in(
    x: Tensor | float,
    among: Tensor | float,
    *,
    assume_unique: bool = False,
    invert: bool = False,
) -> Tensor:
    """Whether each value is one of others: torch's own sorts many, which the exporter lacks."""
    if isinstance(x, Tensor) and isinstance(among, Tensor):
        found = (x.unsqueeze(-1) == among.flatten()).any(-1)
    else:
        same: Any = x == among
        found = same if isinstance(x, Tensor) else same.any()
    return found.logical_not() if invert else found


def histogram(x: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """As ``aten.histc``: what is outside, or no number, has no bin."""
    if x.dtype not in (torch.float32, torch.float64):
        return NotImplemented
    flat = x.flatten()
    least, most = (torch.full((), end, dtype=x.dtype) for end in (min, max))
    if min == max:
        if flat.shape[0] == 0:
            return torch.zeros(bins, dtype=x.dtype)
        least, most = flat.amin(0), flat.amax(0)
        alone = (least == most).to(x.dtype)
        least, most = least - alone, most + alone
    inside = (flat >= least) & (flat <= most)
    place = (torch.where(inside, flat - least, 0) * bins / (most - least)).long()
    place = torch.where(inside, place.clamp(max=bins - 1), bins)
    count = torch.zeros(bins + 1, dtype=x.dtype)
    return count.scatter_add(0, place, torch.ones_like(flat))[:bins]


def mode(x: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The smallest of the values that occur most often, and its last place."""
    if not x.dim():
        return NotImplemented
    moved = x.movedim(dim, -1)  # (..., N)
    count = (moved.unsqueeze(-1) == moved.unsqueeze(-2)).sum(-1).clamp(min=1)  # NaN is alone
    often = count == count.amax(-1, keepdim=True)
    least = _largest(moved)
    value = torch.where(often, without_nan(moved, least), least).amin(-1, keepdim=True)
    if moved.is_floating_point():
        value = torch.where(moved.isnan().all(-1, keepdim=True), math.nan, value)
    places = torch.arange(moved.shape[-1])
    place = torch.where(moved == value, places, 0).amax(-1, keepdim=True)
    found = (each.movedim(-1, dim) for each in (value, place))
    first, second = (each if keepdim else each.squeeze(dim) for each in found)
    return first, second


def _largest(x: Tensor) -> Any:
    """What no value of the dtype is above."""
    if x.is_floating_point():
        return math.inf
    return True if x.dtype == torch.bool else torch.iinfo(x.dtype).max


def einsum(equation: str, operands: Sequence[Tensor], *, path: object = None) -> Any:
    """As ``aten.einsum`` of one tensor of whole numbers, which ONNX Runtime adds up in floats."""
    if operands[0].is_floating_point() or operands[0].is_complex():
        return NotImplemented
    found = with_axes_last(equation, operands)
    return NotImplemented if found is None else found[0].sum(found[1])


def adds_up(node: Node) -> bool:
    """Whether ``einsum`` has something to do."""
    value: Tensor = node.meta["val"]
    return not (value.is_floating_point() or value.is_complex())


def with_axes_last(equation: str, operands: Sequence[Tensor]) -> tuple[Tensor, list[int]] | None:
    """The one tensor of an einsum that only adds up, and its axes that are added, as the last."""
    given, arrow, wanted = equation.replace(" ", "").partition("->")
    is_plain = arrow and given.isalpha() and len(set(given)) == len(given)
    if len(operands) != 1 or not is_plain or len(wanted) == len(given):
        return None
    gone = [axis for axis, letter in enumerate(given) if letter not in wanted]
    x = operands[0].permute([*map(given.index, wanted), *gone])
    return x, [*range(len(wanted), x.dim())]
