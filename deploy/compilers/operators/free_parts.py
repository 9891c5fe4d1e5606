"""Parts of a free size: of a tensor that is cut, and the groups of a convolution, in ONNX.

torch's exporter cuts into a sequence, on which its own optimiser fails (onnxscript 0.7), and takes
groups for a number: a tracker that compares each image with its own template has one a channel.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from .fx_nodes import arguments, value_of
from .symbols import always, is_free

_aten: Any = torch.ops.aten  # operators are made on demand: no types

_MOST: Final = 64
"""Parts of one size that are looked for."""


def _split(x: Tensor, size: Any, dim: int = 0) -> Any:
    sizes = _alike(x.shape[dim], size)
    return NotImplemented if sizes is None else _split_with_sizes(x, sizes, dim)


def _chunk(x: Tensor, count: int, dim: int = 0) -> Any:
    return _split(x, (x.shape[dim] + count - 1) // count, dim)


def _alike(length: Any, size: Any) -> list[Any] | None:
    """How long each part is: all but the last are alike; ``None`` if that is not known."""
    for count in range(1, _MOST + 1):
        if always(length <= count * size):
            rest = length - (count - 1) * size
            return [size] * (count - 1) + [rest] if always(rest > 0) else None
    return None


def _split_with_sizes(x: Tensor, sizes: Sequence[Any], dim: int = 0) -> Any:
    if not any(map(is_free, (x.shape[dim], *sizes))):
        return NotImplemented
    start: Any = 0
    parts = []
    for size in sizes:
        parts.append(x.narrow(dim, start, size))
        start = start + size
    return parts


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1,),
    padding: Any = (0,),
    dilation: Any = (1,),
    groups: Any = 1,
) -> Any:
    """A convolution of a free number of groups, as the product of windows and weights of each."""
    if not is_free(groups):
        return NotImplemented
    rank = weight.dim() - 2
    stride, padding, dilation = (_for_each(rank, each) for each in (stride, padding, dilation))
    x = pad(x, [border for each in reversed(padding) for border in (each, each)])
    kernel = weight.shape[2:]
    for axis in range(rank):  # (N, G * C, ..., out, kernel, ...)
        x = _windows(x, 2 + 2 * axis, kernel[axis], stride[axis], dilation[axis])
    out = x.shape[2::2]
    inner = weight.shape[1]
    x = x.reshape(x.shape[0], groups, inner, *x.shape[2:])
    places, offsets = range(3, 3 + 2 * rank, 2), range(4, 4 + 2 * rank, 2)
    x = x.permute(1, 0, *places, 2, *offsets)
    shape = x.shape[: 2 + rank]
    columns = x.reshape(groups, -1, weight[0].numel())
    weights = weight.reshape(groups, -1, weight[0].numel())
    found = (columns @ weights.mT).reshape(*shape, -1)  # (G, N, *out, C of it)
    found = found.permute(1, 0, 2 + rank, *range(2, 2 + rank)).reshape(shape[1], -1, *out)
    return found if bias is None else found + bias.reshape(-1, *[1] * rank)


def _convolve_transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1,),
    padding: Any = (0,),
    output_padding: Any = (0,),
    groups: Any = 1,
    dilation: Any = (1,),
) -> Any:
    """As ``_convolve`` with the kernel turned round, of what has zeros between its elements."""
    if not is_free(groups):
        return NotImplemented
    rank = weight.dim() - 2
    stride, padding, more, dilation = (
        _for_each(rank, each) for each in (stride, padding, output_padding, dilation)
    )
    borders = []
    for axis in range(2, 2 + rank):
        x = _spread(x, axis, stride[axis - 2])
        reach = dilation[axis - 2] * (weight.shape[axis] - 1) - padding[axis - 2]
        borders.append((reach, reach + more[axis - 2]))
    x = pad(x, [border for each in reversed(borders) for border in each])
    weight = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)  # (G, out, C, kernel)
    weight = weight.flatten(0, 1).flip(list(range(2, 2 + rank)))
    return _convolve(x, weight, bias, dilation=dilation, groups=groups)


def _spread(x: Tensor, axis: int, step: int) -> Tensor:
    """Put zeros between the elements of an axis, and none behind the last."""
    if step == 1:
        return x
    size = x.shape[axis]
    x = pad(x.unsqueeze(-1).movedim(-1, axis + 1), [0, 0] * (x.dim() - axis - 1) + [0, step - 1])
    return x.flatten(axis, axis + 1).narrow(axis, 0, (size - 1) * step + 1)


def _windows(x: Tensor, axis: int, size: Any, stride: int, dilation: int) -> Tensor:
    count = (x.shape[axis] - dilation * (size - 1) - 1) // stride + 1
    place = torch.arange(count).unsqueeze(1) * stride + torch.arange(size) * dilation
    found = x.index_select(axis, place.flatten())
    return found.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])


def _for_each(rank: int, option: Any) -> list[int]:
    return list(option) * rank if len(option) == 1 else list(option)


TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.split.Tensor: _split,
    _aten.split_with_sizes.default: _split_with_sizes,
    _aten.chunk.default: _chunk,
    _aten.conv1d.default: _convolve,
    _aten.conv2d.default: _convolve,
    _aten.conv3d.default: _convolve,
    _aten.conv_transpose1d.default: _convolve_transposed,
    _aten.conv_transpose2d.input: _convolve_transposed,
    _aten.conv_transpose3d.input: _convolve_transposed,
}


def applies(node: torch.fx.Node) -> bool:
    """Whether a node with one of these operators is of a free size."""
    given = arguments(node)
    if "groups" in given:
        return isinstance(given["groups"], torch.fx.Node)
    x, sizes, axis = given.values()
    several = sizes if isinstance(sizes, list | tuple) else [sizes]
    is_computed = any(isinstance(size, torch.fx.Node) for size in several)
    return is_computed or is_free(value_of(x).shape[axis])
