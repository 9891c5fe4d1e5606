"""Answers that hang on the order of equal values, which torch does not promise.

Scores that saturate are equal, and so are many of a ReLU: engines differ in which of them ``topk``
and ``sort`` put first, and nobody is wrong.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.running import run_module
from edgeport.runtimes.inputs import Array

_ATEN: Final = torch.ops.aten

_ROUNDING: Final = 16
"""Units of roundoff, of an output's largest value, and of each where that is more than 1e-3."""


_ONE_BY_ONE: Final = 4
"""Orders in one run of forward that are turned alone; the others are turned together."""


def orders(flat: Flat, inputs: Mapping[str, Array]) -> bool:
    """Whether a module asks for an order of values at all."""
    return _answered(flat, inputs, range(0))[1] > 0


def hangs_on_ties(flat: Flat, inputs: Mapping[str, Array]) -> bool:
    """Whether a module answers otherwise if the last of equal values comes first.

    One order at a time: of what was turned already, the next would turn it back.
    """
    first, count = _answered(flat, inputs, range(0))
    turned = [range(place, place + 1) for place in range(min(count, _ONE_BY_ONE))]
    for places in (*turned, range(_ONE_BY_ONE, count)):
        answer = _answered(flat, inputs, places)[0] if places else None
        if first is not None and answer is not None and not all(map(_is_same, first, answer)):
            return True
    return False


def _answered(
    flat: Flat, inputs: Mapping[str, Array], turned: range
) -> tuple[list[Array] | None, int]:
    """What a module answers, and how often it asks for an order."""
    ordered = _EqualValues(turned)
    with contextlib.suppress(Exception), ordered:  # a kernel may not bear to be watched
        return run_module(flat, inputs), ordered.asked
    return None, ordered.asked


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
    """

    def __init__(self, turned: range) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked = 0
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
        last_first = self.asked in self._turned
        self.asked += 1
        x, dim = args[0], asked.get("dim", -1)
        count = asked.get("k", x.shape[dim])
        falling = asked.get("largest", True) if "k" in asked else asked.get("descending", False)
        x = x.flip(dim) if last_first else x
        values, places = x.sort(dim=dim, descending=falling, stable=True)
        places = x.shape[dim] - 1 - places if last_first else places
        return tuple(x.narrow(dim, 0, count).contiguous() for x in (values, places))  # for a view


_PARAMETERS: Final[Mapping[Any, tuple[str, ...]]] = {
    _ATEN.topk.default: ("self", "k", "dim", "largest", "sorted"),
    _ATEN.sort.default: ("self", "dim", "descending"),
    _ATEN.sort.stable: ("self",),
}
