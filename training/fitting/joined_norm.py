"""Batch normalisation over the joined batch of several processes, on the CPU too.

``torch.nn.SyncBatchNorm`` needs a GPU. Sums over all processes give the statistics that one
process would see; their gradient flows back through the same sums.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def joined_statistics(module: nn.Module) -> Iterator[None]:
    """Let every batch normalisation in a module use the joined batch while it is trained.

    Without gradients it uses this process's own share.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    try:
        for layer in layers:
            layer.__dict__["forward"] = functools.partial(_forward, layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _forward(layer: _BatchNorm, x: Tensor) -> Tensor:
    if not (layer.training and torch.is_grad_enabled()):  # as where a lost step is looked for
        usual: Tensor = type(layer).forward(layer, x)
        return usual
    # (B, C, ...) -> (C,): count and sum of the joined batch, then squares about its mean: about 0
    # they lose all digits where a batch hardly varies
    axes, shape = [axis for axis in range(x.ndim) if axis != 1], [1, -1] + [1] * (x.ndim - 2)
    wide = x.double()
    count = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float64, device=x.device)
    joined = _sum(torch.cat([count, wide.sum(axes)]))
    total, mean = joined[0], joined[1:] / joined[0]
    centred = wide - mean.view(shape)
    variance = _sum(centred.square().sum(axes)) / total
    result = centred / torch.sqrt(variance.view(shape) + layer.eps)
    if layer.affine:
        result = result * layer.weight.view(shape) + layer.bias.view(shape)
    _remember(layer, mean.detach(), (variance * total / (total - 1)).detach())
    return result.to(x.dtype)


def _remember(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    means, variances, count = layer.running_mean, layer.running_var, layer.num_batches_tracked
    if means is None or variances is None or count is None:  # torch makes all three or none
        return
    count.add_(1)
    share = layer.momentum
    if share is None:  # cumulative average
        share = 1 / float(count)
    with torch.no_grad():
        means.lerp_(mean.to(means.dtype), share)
        variances.lerp_(variance.to(variances.dtype), share)


class _Sum(torch.autograd.Function):
    """The sum over processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _all_reduced(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _all_reduced(gradients[0])


def _sum(x: Tensor) -> Tensor:
    found: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]  # upstream
    return found


def _all_reduced(x: Tensor) -> Tensor:
    from torch import distributed

    total = x.clone().contiguous()
    distributed.all_reduce(total)
    return total
