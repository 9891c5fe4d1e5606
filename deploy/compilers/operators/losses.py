"""Losses that torch's ONNX exporter translates in part: smoothed labels, and shares of classes.

Of a loss for each row it forgets that there are rows (torch 2.13).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from .elementwise import log_sigmoid

_NONE, _MEAN = 0, 1  # torch's numbers for a reduction


def binary_cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: int = _MEAN,
) -> Tensor:
    """The exporter takes the logarithm of a sigmoid, which underflows."""
    log_p = log_sigmoid(x)
    if pos_weight is not None:
        log_p = log_p * ((pos_weight - 1) * target + 1)
    each = (1 - target) * x - log_p
    each = (each if weight is None else each * weight).to(target.dtype)
    return each if reduction == _NONE else each.mean() if reduction == _MEAN else each.sum()


def cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = _MEAN,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Any:
    """With smoothed labels, which the exporter drops, or shares, which it takes for labels."""
    has_shares = target.is_floating_point()
    if not (has_shares or label_smoothing):
        if not _is_of_rows(x, reduction):
            return NotImplemented
        return nll_loss(log_softmax(x, 1), target, weight, reduction, ignore_index)
    axis = min(x.dim() - 1, 1)
    classes = x.shape[axis]
    log_p = log_softmax(x, axis)
    if weight is None:
        weight = torch.ones(classes, dtype=x.dtype)
    of_class = -log_p * weight.reshape([-1] + [1] * (x.dim() - axis - 1))
    if has_shares:
        shares = target * (1 - label_smoothing) + label_smoothing / classes
        each = (of_class * shares).sum(axis)
        return each if reduction == _NONE else each.mean() if reduction == _MEAN else each.sum()
    is_counted = target != ignore_index
    label = torch.where(is_counted, target, 0)
    own = of_class.gather(axis, label.unsqueeze(axis)).squeeze(axis)
    every = of_class.mean(axis)
    each = torch.where(is_counted, own * (1 - label_smoothing) + every * label_smoothing, 0)
    if reduction == _NONE:
        return each
    total = each.sum()
    return total / torch.where(is_counted, weight[label], 0).sum() if reduction == _MEAN else total


def nll_loss(
    log_p: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    reduction: int = _MEAN,
    ignore_index: int = -100,
) -> Any:
    """As ``aten.nll_loss_nd``, one for each row."""
    if not _is_of_rows(log_p, reduction):
        return NotImplemented
    is_counted = target != ignore_index
    label = torch.where(is_counted, target, 0)
    each = -log_p.gather(1, label.unsqueeze(1)).squeeze(1)
    return torch.where(is_counted, each if weight is None else each * weight[label], 0)


def _is_of_rows(x: Tensor, reduction: int) -> bool:
    return reduction == _NONE and x.dim() == 2


_functional: Final[Any] = torch.nn.functional
_own_gaussian_nll_loss: Final = _functional.gaussian_nll_loss


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Any:  # as torch.nn.functional.gaussian_nll_loss
    """Without the question whether a variance is negative, which raises in eager."""
    if not isinstance(var, Tensor):
        return _own_gaussian_nll_loss(input, target, var, full, eps, reduction)
    if var.dim() == input.dim() - 1:
        var = var.unsqueeze(-1)
    var = var.clamp(min=eps)
    each = 0.5 * (var.log() + (input - target) ** 2 / var)
    if full:
        each = each + 0.5 * math.log(2 * math.pi)
    return each if reduction == "none" else each.mean() if reduction == "mean" else each.sum()


WHILE_CAPTURED: Final[Sequence[tuple[Any, str, Callable[..., Any]]]] = (
    (_functional, "gaussian_nll_loss", gaussian_nll_loss),
)
"""Owner, name and what stands there while torch.export runs."""
