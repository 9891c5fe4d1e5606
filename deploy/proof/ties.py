"""Answers that hang on the order of equal values, which torch does not promise.

Scores that saturate are equal, and so are many of a ReLU: engines differ in which of them ``topk``
and ``sort`` put first, and nobody is wrong. Nor is anybody where scores differ by less than their
rounding errors: among the 300 best of a detector, two such are no rare thing.
"""

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
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
"""Orders in one run of forward that are turned alone; the others are turned together."""


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
    turned = [range(place, place + 1) for place in range(min(len(ordered), _ONE_BY_ONE))]
    for places in (*turned, range(_ONE_BY_ONE, len(ordered))):
        answer = _answered(flat, inputs, places, margins)[0] if places else None
        if answer is not None and not all(map(_is_same, first, answer)):
            return True
    return False


def _answered(
    flat: Flat, inputs: Mapping[str, Array], turned: range = range(0), margins: Sequence[float] = ()
) -> tuple[list[Array] | None, list[torch.Tensor]]:
    """What a module answers, and the values that it asks an order of."""
    ordered = _EqualValues(turned, margins)
    with contextlib.suppress(Exception), ordered:  # a kernel may not bear to be watched
        return run_module(flat, inputs), ordered.asked
    return None, ordered.asked


def _margins(
    ordered: Sequence[torch.Tensor],
    oracle: Oracle | None,
    inputs: Mapping[str, Array],
    eager: Sequence[Array],
) -> list[float]:
    """Up to which difference the values of each order are equal."""
    wide = _EqualValues(range(0), ())
    if oracle is not None and ordered:
        with contextlib.suppress(Exception), wide:
            oracle.answer(inputs, eager)
    pairs = itertools.zip_longest(ordered, wide.asked[: len(ordered)])
    return [0.0 if true is None else _NEAR * _farthest(own, true) for own, true in pairs]


def _farthest(own: torch.Tensor, true: torch.Tensor) -> float:
    if not own.is_floating_point() or own.shape != true.shape:
        return 0.0
    apart = (own.double() - true).abs()
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
        turned: In which of their calls it is the last.
        margins: Up to which difference values are equal, by call; 0 if there are none.

    Attributes:
        asked: The values of each call.
    """

    def __init__(self, turned: range, margins: Sequence[float]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: list[torch.Tensor] = []
        self._turned = turned
        self._margins = margins

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
        number = len(self.asked)
        x, dim = args[0], asked.get("dim", -1)
        self.asked.append(x.clone())
        count = asked.get("k", x.shape[dim])
        falling = asked.get("largest", True) if "k" in asked else asked.get("descending", False)
        values, places = x.sort(dim=dim, descending=falling, stable=True)
        if number in self._turned:
            margin = self._margins[number] if self._margins else 0.0
            order = _last_first(values, dim, margin)
            values, places = values.gather(dim, order), places.gather(dim, order)
        return tuple(x.narrow(dim, 0, count).contiguous() for x in (values, places))  # for a view


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
