"""What the operators of branches and loops take and give: tensors that share no memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .script_blocks import names_used
from .script_numbers import truth


class Outer:
    """What the blocks of a node use from outside: their operands, and the rest as it is."""

    def __init__(
        self, node: Any, values: dict[str, Any], *more: str, without: Sequence[str] = ()
    ) -> None:
        self._values = values
        used = names_used(node, without).union(more) - {*without}
        self._names = sorted(name for name in used if name in values)
        self._leaves, self._spec = pytree.tree_flatten([values[name] for name in self._names])
        given = {
            id(leaf): leaf
            for leaf in self._leaves
            if isinstance(leaf, Tensor | torch.SymInt | torch.SymFloat)
        }
        self._numbers = [isinstance(leaf, torch.SymFloat) for leaf in given.values()]
        self._ids = [*given]
        self.operands = tuple(_apart(_passed(leaf)) for leaf in given.values())

    def inside(self, operands: Sequence[Any]) -> dict[str, Any]:
        """Values for one block, with the operands that the operator passes to it."""
        passed = dict(zip(self._ids, restored(operands, self._numbers), strict=True))
        leaves = [passed.get(id(leaf), leaf) for leaf in self._leaves]
        found: list[Any] = pytree.tree_unflatten(leaves, self._spec)
        return {**self._values, **dict(zip(self._names, found, strict=True))}


def fresh(leaf: Any) -> Any:
    """The operators allow no output that is an input."""
    if isinstance(leaf, bool | torch.SymBool | Tensor):
        return truth(leaf)
    return _passed(leaf)


def as_tensor(leaf: Any) -> Any:
    """What a loop carries is a tensor, also a number."""
    return torch.full((), leaf, dtype=torch.int64) if _is_whole(leaf) else fresh(leaf)


def is_number(leaf: Any) -> bool:
    """Whether Python has it as a number, which is not ``True``."""
    return is_float(leaf) or _is_whole(leaf)


def is_float(leaf: Any) -> bool:
    """Whether it is one that a branch gives as a tensor, where a whole one may stay as it is."""
    return isinstance(leaf, float | torch.SymFloat)


def _is_whole(leaf: Any) -> bool:
    return isinstance(leaf, int | torch.SymInt) and not isinstance(leaf, bool)


def _passed(leaf: Any) -> Any:
    """The operators take and give tensors and whole numbers."""
    return torch.full((), leaf, dtype=torch.float64) if is_float(leaf) else leaf


def restored(leaves: Sequence[Any], numbers: Sequence[bool]) -> list[Any]:
    """Numbers of Python's where they were, for they promote otherwise."""
    return [
        leaf.item() if was_number else leaf
        for leaf, was_number in zip(leaves, numbers, strict=True)
    ]


def own(leaf: Any) -> Any:
    """What may be written into: no input of an operator may."""
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def _apart(leaf: Any) -> Any:
    """The operators allow no operands that share memory either, as the halves of a tensor do."""
    return leaf.clone() if isinstance(leaf, Tensor) and leaf._is_view() else leaf
