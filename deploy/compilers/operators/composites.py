"""Operators that torch itself takes apart, and fixes free sizes there, or asks for values.

To know what comes out of them, torch.export runs them. What stands here is run in their place, so
that each stays one operator: eager runs it from ``.pt2``, and ONNX gets what it is taken apart to.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from . import ordering

_aten: Any = torch.ops.aten  # operators are made on demand: no types
_scalar_tensor: Any = torch.scalar_tensor  # its types know no free sizes


def kron(x: Tensor, y: Tensor) -> Tensor:
    """As ``aten.kron``: each value of x times all of y."""
    rank = max(x.dim(), y.dim())
    tall, wide = ([1] * (rank - each.dim()) + [*each.shape] for each in (x, y))
    x = x.reshape([size for own in tall for size in (own, 1)])
    y = y.reshape([size for own in wide for size in (1, own)])
    return (x * y).reshape([a * b for a, b in zip(tall, wide, strict=True)])


def covariance(
    x: Tensor,
    *,
    correction: int = 1,
    fweights: Tensor | None = None,
    aweights: Tensor | None = None,
) -> Tensor:
    """As ``aten.cov``, which looks at its weights to see whether they are valid."""
    x = x.reshape(1, -1) if x.dim() < 2 else x  # (variables, observations)
    given = [each for each in (fweights, aweights) if each is not None]
    weights = given[0] * given[-1] if len(given) == 2 else given[0] if given else None
    weighed = x if weights is None else x * weights
    count = _scalar_tensor(x.shape[1], dtype=torch.int64) if weights is None else weights.sum()
    apart = x - (weighed.sum(1) / count).unsqueeze(1)
    less: Any = correction
    if weights is not None and aweights is not None and correction:
        less = correction * (weights * aweights).sum() / count
    found: Tensor = apart @ (apart if weights is None else apart * weights).mH
    found = found / (count - less).clamp(min=0)
    return found.squeeze() if type(found.shape[0]) is int else found


def correlation(x: Tensor) -> Tensor:
    """As ``aten.corrcoef``."""
    found = covariance(x)
    if found.dim() == 0:
        return found / found
    deviation = found.diagonal().real.sqrt()
    found = found / deviation.unsqueeze(1) / deviation
    if not found.is_complex():
        return found.clamp(-1, 1)
    return torch.complex(found.real.clamp(-1, 1), found.imag.clamp(-1, 1))


def gradient(x: Tensor, *, spacing: Any = None, dim: Any = None, edge_order: int = 1) -> Any:
    """As ``aten.gradient``, in all its forms."""
    axes = range(x.dim()) if dim is None else dim if isinstance(dim, Sequence) else [dim]
    steps = spacing if isinstance(spacing, Sequence) else [spacing] * len(axes)
    return [_slope(x, *each, edge_order) for each in zip(axes, steps, strict=True)]


def _slope(x: Tensor, axis: int, spacing: Any, edge_order: int) -> Tensor:
    """Differences of what lies on both sides, and at the ends of what lies on one."""
    moved = x.movedim(axis, -1)
    count = moved.shape[-1]

    def at(place: Any, more: Any = 1) -> Tensor:
        return moved.narrow(-1, place, more)

    if isinstance(spacing, Tensor):
        inner, first, last = _uneven(at, count, spacing.diff(), edge_order)
    else:
        step = 1 if spacing is None else spacing
        inner = (at(2, count - 2) - at(0, count - 2)) / step / 2
        first, last = (each / step for each in _ends(at, count, edge_order))
    return torch.cat([first, inner, last], -1).movedim(-1, axis)


def _ends(at: Callable[..., Tensor], count: Any, edge_order: int) -> tuple[Tensor, Tensor]:
    if edge_order == 1:
        return at(1) - at(0), at(count - 1) - at(count - 2)
    return (
        -1.5 * at(0) + 2 * at(1) - 0.5 * at(2),
        0.5 * at(count - 3) - 2 * at(count - 2) + 1.5 * at(count - 1),
    )


def _uneven(
    at: Callable[..., Tensor], count: Any, steps: Tensor, edge_order: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The slopes of parabolas through three neighbours each."""
    left, right = steps.narrow(0, 0, count - 2), steps.narrow(0, 1, count - 2)
    both = left + right
    inner = -right / (left * both) * at(0, count - 2)
    inner = inner + (right - left) / (left * right) * at(1, count - 2)
    inner = inner + left / (right * both) * at(2, count - 2)
    a, b = steps[0], steps[-1]
    if edge_order == 1:
        return inner, (at(1) - at(0)) / a, (at(count - 1) - at(count - 2)) / b
    next_, before = steps[1], steps[-2]
    first = -(2 * a + next_) / (a * (a + next_)) * at(0)
    first = first + (a + next_) / (a * next_) * at(1) - a / (next_ * (a + next_)) * at(2)
    last = b / (before * (b + before)) * at(count - 3) - (b + before) / (b * before) * at(count - 2)
    last = last + (2 * b + before) / (b * (b + before)) * at(count - 1)
    return inner, first, last


def chain_product(matrices: Sequence[Tensor]) -> Tensor:
    """As ``aten.linalg_multi_dot``, which looks at sizes for the order of its products."""
    return functools.reduce(torch.matmul, matrices)


def powers(x: Tensor, *, N: int | None = None) -> Tensor:  # noqa: N803  # as torch
    """As ``aten.linalg_vander``: 1, x, its square, ..."""
    count = x.shape[-1] if N is None else N
    found = x.unsqueeze(-1).expand(*x.shape, count - 1).cumprod(-1)
    return torch.cat([found.new_ones(*x.shape, 1), found], -1)


def falling_powers(
    x: Tensor,
    N: int | None = None,  # noqa: N803  # as torch
    increasing: bool = False,
) -> Tensor:
    """As ``aten.vander``."""
    found = powers(x, N=N)
    return found if increasing else found.flip(-1)


def combinations(x: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """As ``aten.combinations``, which asks its masks how many there are."""
    if r < 1:
        return x.new_empty(0)
    return _chosen(x, r, 0 if with_replacement else 1)


def _chosen(x: Tensor, count: int, step: int) -> Tensor:
    """Each value before what can be chosen of those behind it."""
    if count == 1:
        return x.unsqueeze(-1)
    parts = [x.new_empty(0, count)]
    for place in range(int(x.shape[0])):
        rest = _chosen(x[place + step :], count - 1, step)
        parts.append(torch.cat([x[place].expand(rest.shape[0], 1), rest], 1))
    return torch.cat(parts)


TABLE: Final[Mapping[Any, Callable[..., Any]]] = {
    _aten.kron.default: kron,
    _aten.cov.default: covariance,
    _aten.corrcoef.default: correlation,
    _aten.linalg_multi_dot.default: chain_product,
    _aten.chain_matmul.default: chain_product,
    _aten.linalg_vander.default: powers,
    _aten.vander.default: falling_powers,
    _aten.combinations.default: combinations,
    _aten.nanquantile.default: ordering.nanquantile,
    _aten.nanquantile.scalar: ordering.nanquantile,
    **{getattr(_aten.gradient, name): gradient for name in _aten.gradient.overloads()},
}

_KERNEL: Final = torch._C.DispatchKey.CompositeImplicitAutograd


@contextlib.contextmanager
def known() -> Iterator[None]:
    """While it is entered, torch runs what stands here (2.13: no public way)."""
    with contextlib.ExitStack() as stack:
        stack.callback(_forget)
        for operator, function in TABLE.items():
            stack.enter_context(mock.patch.dict(operator.py_kernels, {_KERNEL: function}))
        _forget()
        yield


def _forget() -> None:
    """Kernels that were found before would stay."""
    for operator in TABLE:
        operator._dispatch_cache.clear()
