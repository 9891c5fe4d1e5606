"""Values that all tensors of a free size have: a mask of ones decides whatever its size.

A forward that is given no mask makes one, of as many ones as there are words, and asks of it
whether anything is hidden. How many there are is free, what they are is not. Of each tensor that is
made of numbers alone the few values that may be in it are kept, whatever its size; views have those
of what they show, and of what is written to nothing is known.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from edgeport.deploy.compilers.operators.symbols import SYMBOLS

_MOST: Final = 8
"""Values that are kept of one tensor."""

_aten: Any = torch.ops.aten  # operators are made on demand: no types

_WHERE: Final = {
    _aten.index_put_.default, _aten.masked_fill_.Scalar, _aten.masked_fill_.Tensor,
}  # fmt: skip
"""What ``mask[where] = value`` is, the others from torch 2.15 on: nothing, where all are False."""


class FewValues:
    """What may be in the tensors of one capture, by what holds them."""

    def __init__(self) -> None:
        self._found: dict[StorageWeakRef, Tensor] = {}

    def forget(self, function: Any, args: Any, options: Any) -> None:
        """Know nothing more of what an operator writes to."""
        if not isinstance(function, OpOverload):
            self._found.clear()
            return
        if function in _WHERE and any(map(self._is_false, _where(args))):
            return
        for each in _written(function, args, options):
            self._found.pop(_holder(each), None)

    def follow(self, function: Any, args: Any, options: Any, result: Any) -> Tensor | None:
        """Note what an operator makes of what is known.

        Returns:
            The value of a result that is a number, or ``None`` where it is not known.
        """
        is_new = isinstance(function, OpOverload) and not any(
            each.alias_info for each in function._schema.returns
        )
        values = None
        if is_new and _is_plain(result):
            with contextlib.suppress(RuntimeError):  # there may be no kernel for what is computed
                values = self._made(function, args, options)
        if values is None or len(values) > _MOST:
            return None
        self._found[_holder(result)] = values = values.to(result.dtype)
        return values.reshape(()) if (result.dim(), len(values)) == (0, 1) else None

    def _of(self, tensor: Any) -> Tensor | None:
        """The values that may be in a tensor, each once."""
        if not _is_plain(tensor):
            return None
        if tensor.constant is not None:
            return _distinct(tensor.constant) if tensor.constant.numel() <= _MOST else None
        values = self._found.get(_holder(tensor))
        if values is not None and values.dtype == tensor.dtype:
            return values
        return torch.tensor([False, True]) if tensor.dtype == torch.bool else None

    def _is_false(self, index: Any) -> bool:
        """Whether it is a mask that shows nothing."""
        values = self._of(index) if _is_plain(index) and index.dtype == torch.bool else None
        return values is not None and not values.any()

    def _made(self, function: OpOverload, args: Any, options: Any) -> Tensor | None:
        if function in _FILLS:
            value = _FILLS[function](args, options)
            wide = torch.float64 if isinstance(value, float) else None
            is_number = isinstance(value, bool | int | float)
            return torch.tensor([value], dtype=wide) if is_number else None
        if torch.Tag.pointwise in function.tags:
            return self._of_elements(function, args, options)
        if function not in _KEEPING:
            return None
        given = [self._of(each) for each in pytree.tree_leaves(args[0])]
        known = [each for each in given if each is not None]
        return _KEEPING[function](torch.cat(known), args) if len(known) == len(given) else None

    def _of_elements(self, function: OpOverload, args: Any, options: Any) -> Tensor | None:
        """Of all values that may meet. Of those without an axis torch takes the dtype otherwise."""
        leaves, tree = pytree.tree_flatten((args, dict(options)))
        places = [place for place, each in enumerate(leaves) if isinstance(each, Tensor)]
        known = [self._of(leaves[place]) for place in places]
        is_free = any(isinstance(each, SYMBOLS) for each in leaves)
        if not known or is_free or torch.Tag.nondeterministic_seeded in function.tags:
            return None
        met = list(itertools.product(*(() if each is None else each for each in known)))
        if not 0 < len(met) <= _MOST**2:
            return None
        found = []
        for row in met:
            for place, value in zip(places, row, strict=True):
                leaves[place] = value.reshape([1] * leaves[place].dim())
            again, more = pytree.tree_unflatten(leaves, tree)
            found.append(function(*again, **more).reshape(1))
        return _distinct(torch.cat(found))


def _holder(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]  # of torch


def _is_plain(value: object) -> bool:
    is_dense = isinstance(value, FakeTensor) and value.layout == torch.strided
    return is_dense and not (value.is_conj() or value.is_neg())  # type: ignore[attr-defined]  # is one


def _distinct(values: Tensor) -> Tensor:
    """Each once, in its bits: -0.0 is not 0.0."""
    each = {repr(value.item()): value for value in values.flatten()}
    return torch.stack(list(each.values())) if each else values.flatten()


def _written(function: OpOverload, args: Any, options: Any) -> Iterator[Tensor]:
    given = dict(zip((each.name for each in function._schema.arguments), args, strict=False))
    for argument in function._schema.arguments:
        if argument.is_write:
            value = given.get(argument.name, options.get(argument.name))
            yield from filter(_is_plain, pytree.tree_leaves(value))


def _number(place: int) -> Callable[[Any, Any], Any]:
    return lambda args, options: args[place] if len(args) > place else options.get("fill_value")


def _same(values: Tensor, args: Any) -> Tensor:
    return values


def _joined(values: Tensor, args: Any) -> Tensor:
    return _distinct(values)


def _padded(values: Tensor, args: Any) -> Tensor | None:
    border = args[2] if len(args) > 2 else 0
    if isinstance(border, SYMBOLS):
        return None
    return _distinct(torch.cat([values, values.new_full([1], border)]))


def _any(values: Tensor, args: Any) -> Tensor | None:
    """Of no elements too, of which none is true."""
    return None if values.any() else torch.tensor([False])


def _all(values: Tensor, args: Any) -> Tensor | None:
    return torch.tensor([True]) if values.all() else None


_FILLS: Final[Mapping[Any, Callable[[Any, Any], Any]]] = {
    _aten.full.default: _number(1),
    _aten.full_like.default: _number(1),
    _aten.new_full.default: _number(2),
    **dict.fromkeys(
        (_aten.ones.default, _aten.ones_like.default, _aten.new_ones.default), lambda *_: 1
    ),
    **dict.fromkeys(
        (_aten.zeros.default, _aten.zeros_like.default, _aten.new_zeros.default), lambda *_: 0
    ),
}
"""What an operator fills a new tensor with, of its arguments."""

_KEEPING: Final[Mapping[Any, Callable[[Tensor, Any], Tensor | None]]] = {
    _aten.clone.default: _same,
    _aten._to_copy.default: _same,
    _aten.repeat.default: _same,
    _aten.cat.default: _joined,
    _aten.stack.default: _joined,
    _aten.constant_pad_nd.default: _padded,
    **dict.fromkeys((_aten.any.default, _aten.any.dim, _aten.any.dims), _any),
    **dict.fromkeys((_aten.all.default, _aten.all.dim, _aten.all.dims), _all),
}
"""What is in a result, of the values in the first argument."""


def _where(args: Any) -> Any:
    return args[1] if isinstance(args[1], list | tuple) else [args[1]]
