"""Operators of float64 whose number a file holds as float32, or that ONNX Runtime has not.

An attribute of ONNX is a float32: the ``value`` of ``addcmul``, the ``eps`` of a normalisation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch.fx import Node
from torch.utils import _pytree as pytree

from . import special

_aten: Any = torch.ops.aten  # operators are made on demand: no types


def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    return torch.where(x > 0, x, x * _along(weight, x))


def _layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: bool,
) -> Tensor:
    return torch.native_layer_norm(x, shape, weight, bias, eps)[0]


def _group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: bool,
) -> Tensor:
    grouped = x.reshape(x.shape[0], groups, -1)
    return scaled(_normalised(grouped, [-1], eps).reshape(x.shape), weight, bias)


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    *_: bool,
) -> Any:
    if training:
        return NotImplemented
    return torch.native_batch_norm(x, weight, bias, mean, variance, False, momentum, eps)[0]


def _instance_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    by_input: bool,
    momentum: float,
    eps: float,
    *_: bool,
) -> Any:
    if not by_input:
        return _batch_norm(x, weight, bias, mean, variance, False, momentum, eps)
    return scaled(_normalised(x, [*range(2, x.dim())], eps), weight, bias)


def _normalised(x: Tensor, axes: list[int], eps: float) -> Tensor:
    """As torch's own of groups, of which free axes make an invalid file (torch 2.13)."""
    apart = x - x.mean(axes, keepdim=True)
    return apart * (apart.square().mean(axes, keepdim=True) + eps).rsqrt()


def scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """What is normalised, times the weight of each channel and with its bias added."""
    x = x if weight is None else x * _along(weight, x)
    return x if bias is None else x + _along(bias, x)


def _along(values: Tensor, x: Tensor) -> Tensor:
    """One for each channel of x, the second axis."""
    return values.reshape(-1, *[1] * (x.dim() - 2)) if x.dim() > 1 else values


def _of_doubles(function: Callable[..., Any]) -> Callable[..., Any]:
    def apart(*args: Any, **options: Any) -> Any:
        return function(*args, **options) if any(map(_is_double, args)) else NotImplemented

    return apart


def applies(node: Node) -> bool:
    """Whether it computes with float64."""
    return any(map(_is_double, pytree.tree_leaves(node.meta.get("val"))))


def _is_double(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float64


_TAKEN_APART: Final = (
    _aten.addcmul.default,
    _aten.addcdiv.default,
    _aten.fill.Scalar,
    _aten.hardtanh.default,
    _aten.celu.default,
    _aten.elu.default,
    _aten.selu.default,
    _aten.leaky_relu.default,
    _aten.softplus.default,
    _aten.hardsigmoid.default,
    _aten.hardswish.default,
    _aten.mish.default,
    _aten.gelu.default,
    _aten.linalg_vector_norm.default,
    _aten.native_layer_norm.default,
    _aten.native_batch_norm.default,
    _aten._native_batch_norm_legit.default,
    _aten._native_batch_norm_legit_no_training.default,
)
"""By torch itself."""

_FUNCTIONS: Final[Mapping[Any, Callable[..., Any]]] = {
    **{operator: decomposition_table[operator] for operator in _TAKEN_APART},
    _aten.erf.default: special.erf,
    _aten.prelu.default: _prelu,
    _aten.layer_norm.default: _layer_norm,
    _aten.group_norm.default: _group_norm,
    _aten.batch_norm.default: _batch_norm,
    _aten.instance_norm.default: _instance_norm,
}

TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    operator: _of_doubles(function) for operator, function in _FUNCTIONS.items()
}
