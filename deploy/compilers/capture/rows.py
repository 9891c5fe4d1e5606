"""Rows that values choose, which forward takes one by one: ``for expert in hit.nonzero():``.

They are those of the example, as constants, so that ``self.experts[expert]`` is a known layer. That
an input has each, and no others, are conditions, dropped like others where they change nothing.
"""

import contextlib
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor

from .one_way import ROWS

_MOST: Final = 256
"""Rows that are taken one by one: each is in the program with all that is computed of it."""

_assert: Any = torch.ops.aten._assert_async.msg  # operators are made on demand: no types
_torch: Any = torch  # what follows is private, and has none either


@dataclass(slots=True)
class Filling:
    """Whether what the example has nothing of is recorded too: an expert that no row chose.

    Attributes:
        is_on: Whether it is: rows are all that there may be, and a count that is asked for is some.
        is_possible: Whether there is something of which the example has nothing.
    """

    is_on: bool = False
    is_possible: bool = False


@contextlib.contextmanager
def known(filling: Filling) -> Iterator[None]:
    """While it is entered, whole numbers in rows of any count are iterated over as constants."""
    own: Any = Tensor.__iter__

    def iterated(x: Tensor) -> Any:
        found = _of_example(x) if has_any_count(x) else None
        if found is None or len(found) > _MOST or not _are_places(found):
            return own(x)
        most = _all_of(x, found)
        filling.is_possible |= most is not None
        rows = most if filling.is_on and most is not None else found
        _require(x, rows)
        return iter([torch.tensor(row, dtype=x.dtype, device=x.device) for row in rows.tolist()])

    with mock.patch.object(Tensor, "__iter__", iterated):
        yield


def has_any_count(x: Tensor) -> bool:
    """Whether it has whole numbers, and how many rows is a matter of values."""
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols  # loads sympy

    is_whole = not (x.is_floating_point() or x.is_complex() or x.dtype is torch.bool)
    return is_whole and x.dim() > 0 and bool(free_unbacked_symbols(x.shape[0]))


def _are_places(found: Tensor) -> bool:
    """Whether they rise, as what ``nonzero`` and ``unique`` answer; counts may be any."""
    rows = found.tolist()
    return 0 not in found.shape[1:] and all(map(operator.lt, rows, rows[1:]))


def _of_example(x: Any) -> Tensor | None:
    """The values beside its symbols."""
    from torch._subclasses.functional_tensor import FunctionalTensor  # loads sympy

    if isinstance(x, FunctionalTensor):
        x = x.elem
    if _torch._is_functional_tensor(x):
        _torch._functionalize_sync(x)
        x = _torch._from_functional_tensor(x)
    values: Tensor | None = getattr(x, "real_tensor", None)
    return values


def _all_of(x: Tensor, found: Tensor) -> Tensor | None:
    """All places, where these are some: those of a mask of known length, or up to the last.

    Those below 0, of what is padded, are as they are.
    """
    if found.numel() != len(found):
        return None
    size: Any = x.shape[0]
    known = size.node.shape_env.bound_sympy(size.node.expr).upper
    last = int(found.max()) + 1 if found.numel() else 0
    most = int(known) if known.is_Integer and last <= known <= _MOST else last
    below = [place for place in found.flatten().tolist() if place < 0]
    every = torch.tensor([*below, *range(most)]).reshape(-1, *found.shape[1:])
    return every if len(found) < len(every) <= _MOST else None


def _require(x: Tensor, rows: Tensor) -> None:
    """Assert that it has no others, that they rise as these do, and then each of these by itself.

    An expert that all samples choose is to be asked for, whatever the others do.
    """
    count, width = len(rows), math.prod(rows.shape[1:])
    wanted = torch.tensor(rows.tolist(), dtype=x.dtype, device=x.device)
    pairs = (x.reshape(x.shape[0], 1, width) == wanted.reshape(1, count, width)).all(-1)
    _assert(pairs.any(1).all(), ROWS)
    found = pairs.any(0)
    rank = (found.cumsum(0) * pairs).sum(1)  # of each among those that are there, from 1 on
    _assert((rank == torch.arange(1, x.shape[0] + 1)).all(), ROWS)
    for place in range(count):
        _assert(found[place], ROWS)
