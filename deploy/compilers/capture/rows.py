"""Rows that values choose, which forward takes one by one: ``for expert in hit.nonzero():``.

They are those of the example, as constants, so that ``self.experts[expert]`` is a known layer. That
an input has the same is one condition, which is dropped like others where it changes nothing.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from edgeport.runtimes.run_failures import ANOTHER_WAY

_MOST: Final = 256
"""Rows that are taken one by one: each is in the program with all that is computed of it."""

_assert: Any = torch.ops.aten._assert_async.msg  # operators are made on demand: no types
_full: Callable[..., Tensor] = torch.full


@contextlib.contextmanager
def known() -> Iterator[None]:
    """While it is entered, whole numbers in rows of any count are iterated over as constants."""
    own: Any = Tensor.__iter__

    def iterated(x: Tensor) -> Any:
        values = _of_example(x) if _has_any_count(x) else None
        if values is None or len(values) > _MOST:
            return own(x)
        _require(x, values)
        return iter([torch.tensor(row, dtype=x.dtype, device=x.device) for row in values.tolist()])

    with mock.patch.object(Tensor, "__iter__", iterated):
        yield


def _has_any_count(x: Tensor) -> bool:
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    is_whole = not (x.is_floating_point() or x.is_complex() or x.dtype is torch.bool)
    return is_whole and x.dim() > 0 and bool(free_unbacked_symbols(x.shape[0]))


def _of_example(x: Any) -> Tensor | None:
    """The values beside its symbols."""
    from torch._subclasses.functional_tensor import FunctionalTensor  # loads sympy

    if isinstance(x, FunctionalTensor):
        x = x.elem
    if torch._is_functional_tensor(x):
        torch._sync(x)
        x = torch._from_functional_tensor(x)
    values: Tensor | None = getattr(x, "real_tensor", None)
    return values


def _require(x: Tensor, values: Tensor) -> None:
    """Assert that it has these rows, also where it has fewer."""
    count = len(values)
    filled = torch.cat([x, x.new_zeros((count, *x.shape[1:]))]).narrow(0, 0, count)
    same = (filled == torch.tensor(values.tolist(), dtype=x.dtype, device=x.device)).all()
    _assert(same.logical_and(_full((), x.shape[0]) == count), ANOTHER_WAY)
