"""Answers that hang on the order of equal values, which torch does not promise.

Scores that saturate are equal, and so are many of a ReLU: engines differ in which of them ``topk``
and ``sort`` put first, and nobody is wrong. Nor is anybody where scores differ by less than their
rounding errors: among the 300 best of a detector, two such are no rare thing.
"""

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.running import run_module
from edgeport.runtimes.inputs import Array

from .oracle import Oracle

_ATEN: Final = torch.ops.aten

_ROUNDING: Final = 16
"""Units of roundoff, of an output's largest value, and of each where that is more than 1e-3."""


_NEAR: Final = 4
"""Times the rounding error of eager: an engine has another, and both ends of a difference one."""

_ONE_BY_ONE: Final = 4
"""Orders with equal values that are turned alone; the others are turned together."""


def orders(flat: Flat, inputs: Mapping[str, Array]) -> bool:
    """Whether a module asks for an order of values at all."""
    return bool(_answered(flat, inputs)[1])


def hangs_on_ties(flat: Flat, inputs: Mapping[str, Array], oracle: Oracle | None = None) -> bool:
    """Whether a module answers otherwise if the last of equal values comes first.

    One order at a time: of what was turned already, the next would turn it back.

    Args:
        flat: The module.
        inputs: By name.
        oracle: The same in float64. With it, values are equal if they differ by no more than a few
            times what the rounding of eager has put between these values and the true ones.
    """
    first, ordered = _answered(flat, inputs)
    if first is None:
        return False
    margins = _margins(ordered, oracle, inputs, first)
    tied = [n for n, order in enumerate(ordered) if order.has_ties(margins[n])]
    for turned in (*([n] for n in tied[:_ONE_BY_ONE]), tied[_ONE_BY_ONE:]):
        answer = _answered(flat, inputs, {n: margins[n] for n in turned})[0] if turned else None
        if answer is not None and not all(map(_is_same, first, answer)):
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Order:
    """What a module asks an order of.

    Attributes:
        values: Along all axes.
        dim: The axis.
        count: How many of the first are asked for.
        falls: Whether the largest comes first.
    """

    values: torch.Tensor
    dim: int
    count: int
    falls: bool

    def has_ties(self, margin: float) -> bool:
        """Whether equal values change what comes first."""
        own, turned = self.places(), self.places(margin)
        return not torch.equal(own[1], turned[1])

    def places(self, margin: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The first values and their places; with a margin, the last of equal ones is first."""
        values, places = self.values.sort(dim=self.dim, descending=self.falls, stable=True)
        if margin is not None:
            order = _last_first(values, self.dim, margin)
            values, places = values.gather(self.dim, order), places.gather(self.dim, order)
        first = (each.narrow(self.dim, 0, self.count) for each in (values, places))
        values, places = (each.contiguous() for each in first)  # forward may ask for a view
        return values, places


def _answered(
    flat: Flat, inputs: Mapping[str, Array], turned: Mapping[int, float] | None = None
) -> tuple[list[Array] | None, list[_Order]]:
    """What a module answers, and the orders that it asks for."""
    ordered = _EqualValues(turned or {})
    with contextlib.suppress(Exception), ordered:  # a kernel may not bear to be watched
        return run_module(flat, inputs), ordered.asked
    return None, ordered.asked


def _margins(
    ordered: Sequence[_Order],
    oracle: Oracle | None,
    inputs: Mapping[str, Array],
    eager: Sequence[Array],
) -> list[float]:
    """Up to which difference the values of each order are equal."""
    wide = _EqualValues({})
    answered = False
    if oracle is not None and ordered:
        with contextlib.suppress(Exception), wide:
            found = oracle.answer(inputs, eager)
            answered = found.gap is None or any(output is not None for output in found.outputs)
    # A run that fails is begun again: only the orders of one that went through are those of eager.
    true = itertools.chain(wide.asked[-len(ordered) :] * answered, itertools.repeat(None))
    return [_NEAR * _farthest(own, one) for own, one in zip(ordered, true, strict=False)]


def _farthest(own: _Order, true: _Order | None) -> float:
    values = own.values
    if true is None or not values.is_floating_point() or values.shape != true.values.shape:
        return 0.0
    apart = (values.double() - true.values).abs()
    return float(apart[apart.isfinite()].amax()) if apart.isfinite().any() else 0.0


def _is_same(one: Array, other: Array) -> bool:
    """But for rounding: a sum over places has another order too, and floats only then differ."""
    if one.dtype.kind != "f" or one.shape != other.shape:
        return np.array_equal(one, other)
    largest = float(np.abs(one, where=np.isfinite(one), out=np.zeros_like(one)).max(initial=0.0))
    few = _ROUNDING * float(np.finfo(one.dtype).eps)
    one, other = one.astype(np.float64), other.astype(np.float64)
    return np.allclose(one, other, rtol=max(few, 1e-3), atol=few * largest, equal_nan=True)


class _EqualValues(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Puts the first of equal values first in what ``topk`` and ``sort`` answer; or the last.

    Args:
        turned: In which of their calls it is the last, and up to which difference values are
            equal there.

    Attributes:
        asked: Their calls.
    """

    def __init__(self, turned: Mapping[int, float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: list[_Order] = []
        self._turned = turned

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        asked = {**dict(zip(_PARAMETERS.get(func, ()), args, strict=False)), **(kwargs or {})}
        if func not in _PARAMETERS or asked.get("stable") or not args[0].dim():
            return func(*args, **(kwargs or {}))
        dim = asked.get("dim", -1)
        falls = asked.get("largest", True) if "k" in asked else asked.get("descending", False)
        order = _Order(args[0].clone(), dim, asked.get("k", args[0].shape[dim]), falls)
        self.asked.append(order)
        return order.places(self._turned.get(len(self.asked) - 1))


def _last_first(values: torch.Tensor, dim: int, margin: float) -> torch.Tensor:
    """Places in sorted values, where those of equal ones are turned around."""
    count = values.shape[dim]
    if count == 0:
        return torch.zeros_like(values, dtype=torch.int64)
    before, after = values.narrow(dim, 0, count - 1), values.narrow(dim, 1, count - 1)
    differ = (before != after) & ~(before.isnan() & after.isnan())
    if margin:
        differ &= ~((before - after).abs() <= margin)
    first = torch.zeros_like(values.narrow(dim, 0, 1), dtype=torch.bool)
    groups = torch.cat([first, differ], dim).cumsum(dim)
    return count - 1 - groups.flip(dim).sort(dim=dim, stable=True).indices


_PARAMETERS: Final[Mapping[Any, tuple[str, ...]]] = {
    _ATEN.topk.default: ("self", "k", "dim", "largest", "sorted"),
    _ATEN.sort.default: ("self", "dim", "descending"),
    _ATEN.sort.stable: ("self",),
}
