"""What goes into the blocks of a branch or a loop and comes out: tensors that share no memory.

Private API of torch 2.13, as in ``converter``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch._guards import detect_fake_mode
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.utils import _pytree as pytree

from edgeport.deploy.compilers.operators.symbols import truth

from .blocks import names_used

Values = dict[str, Any]
"""What there is, by name."""

Run: TypeAlias = Callable[[Any, Values], list[Any]]
"""Runs a block on what there is, and returns what it gives."""

_full: Any = torch.full  # its types know no symbols


class Outer:
    """What the blocks of a node use from outside: their operands, and the rest as it is."""

    def __init__(self, node: Any, values: Values, *more: str, without: Sequence[str] = ()) -> None:
        self._values = values
        used = {*names_used(node, without), *more} - {*without}
        self._names = sorted(name for name in used if name in values)
        self._leaves, self._spec = pytree.tree_flatten([values[name] for name in self._names])
        self._places = [
            place
            for place, leaf in enumerate(self._leaves)
            if isinstance(leaf, Tensor | torch.SymInt | torch.SymFloat)
        ]
        self.operands = tuple(apart([self._leaves[place] for place in self._places]))

    def inside(self, operands: Sequence[Any]) -> Values:
        """Values for one block, with the operands that the operator passes to it."""
        leaves = [*self._leaves]
        for place, operand in zip(self._places, operands, strict=True):
            leaves[place] = operand
        found: list[Any] = pytree.tree_unflatten(leaves, self._spec)
        return {**self._values, **dict(zip(self._names, found, strict=True))}


def fresh(leaf: Any) -> Any:
    """The operators allow no output that is an input, nor sides that lay it out otherwise."""
    if isinstance(leaf, bool):
        return torch.full((), leaf)
    if isinstance(leaf, float | torch.SymFloat):
        return _full((), leaf, dtype=torch.float64)
    if isinstance(leaf, torch.SymBool):  # of ``n > 4 and n % 2 == 0``, whose other side is a bool
        return truth(leaf)
    if isinstance(leaf, Tensor):
        return leaf.clone(memory_format=torch.contiguous_format)
    return leaf


def as_tensor(leaf: Any) -> Any:
    """What an operator takes for any value: a whole number too."""
    is_whole = type(leaf) in (int, torch.SymInt)
    return torch.full((), leaf, dtype=torch.int64) if is_whole else fresh(leaf)


def with_numbers(leaves: Iterable[Any], are_whole: Iterable[bool]) -> list[Any]:
    """What comes through an operator, in which whole numbers are tensors."""
    pairs = zip(leaves, are_whole, strict=True)
    return [leaf.item() if is_whole else leaf for leaf, is_whole in pairs]


def makes_whole_numbers(node: Any) -> list[bool]:
    """Of each result of a branch, whether it is a whole number that a side makes of something."""
    sides = zip(*(block.outputs() for block in node.blocks()), strict=True)
    return [
        output.type().kind() == "IntType"
        and any(side.node().kind() != "prim::Constant" for side in each)
        for output, each in zip(node.outputs(), sides, strict=True)
    ]


def never_read(block: Any) -> list[int]:
    """Results of a side that returns elsewhere, or that returns before what they are for."""
    return [place for place, output in enumerate(block.outputs()) if is_absent(output)]


def is_absent(value: Any) -> bool:
    """Whether there is nothing where a script says that a value is."""
    return bool(value.node().kind() == "prim::Uninitialized")


def told(run: Run, block: Any, values: Values, written: Sequence[str]) -> list[Any]:
    """Of what kind and shape a block gives what another does not; nothing of the run is kept.

    Args:
        run: Runs it.
        block: The one that is asked.
        values: What there is.
        written: Names of what it writes into.
    """
    inside = {**values, **{name: values[name].clone() for name in written}}
    known = symbols(values)
    with (
        disable_proxy_modes_tracing(),
        known.suppress_guards(),
        known.ignore_fresh_unbacked_symbols(),
    ):
        return run(block, inside)


def any_like(value: Any) -> Any:
    """Something of the same kind and shape."""
    return pytree.tree_map(_zero_like, value)


def _zero_like(leaf: Any) -> Any:
    if isinstance(leaf, Tensor):
        return torch.zeros(leaf.shape, dtype=leaf.dtype, device=leaf.device)
    if isinstance(leaf, torch.SymFloat):
        return 0.0
    return 0 if isinstance(leaf, torch.SymInt) else leaf


def symbols(values: Values) -> Any:
    """Where torch keeps what it knows of sizes."""
    mode: Any = detect_fake_mode([value for value in values.values() if isinstance(value, Tensor)])
    return mode.shape_env


def own(leaf: Any) -> Any:
    """What may be written into: no input of an operator may."""
    return leaf.clone() if isinstance(leaf, Tensor) else leaf


def apart(leaves: Iterable[Any]) -> Iterator[Any]:
    """The operators allow no operands that share memory either, as the halves of a tensor do."""
    seen: set[int] = set()
    for leaf in leaves:
        memory = leaf.untyped_storage()._cdata if isinstance(leaf, Tensor) else id(leaf)
        is_shared = isinstance(leaf, Tensor) and (leaf._is_view() or memory in seen)
        seen.add(memory)
        yield fresh(leaf) if is_shared or isinstance(leaf, torch.SymFloat) else leaf
