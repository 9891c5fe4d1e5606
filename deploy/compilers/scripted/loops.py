"""Loops of a script: turn by turn where their end is known, else torch's ``while_loop`` operator.

What goes round in the operator is tensors alone. A whole number that the loop carries is one
without axes there; a list that grows is one with room for all turns, of which each fills its own
place; a tensor from outside that the loop writes into goes round, and is copied back in the end.

Private API of torch 2.13, as in ``converter``.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils import _pytree as pytree

from .blocks import always_goes_on, counted_to, lists_grown, names_written
from .operands import (
    Outer,
    Run,
    Values,
    any_like,
    as_tensor,
    fresh,
    is_absent,
    own,
    symbols,
    told,
    with_numbers,
)
from .operators import Grown
from .writes import Writes

_while_loop: Any = while_loop_op  # these have no types
_check: Any = torch._check


def looped(
    run: Run, writes: Writes, node: Any, args: Sequence[Any], values: Values
) -> Sequence[Any]:
    """What a loop gives.

    Args:
        run: Runs its block.
        writes: Of the whole script.
        node: The loop.
        args: What it is given: how many turns at most, whether there is a first, what it carries.
        values: What there is, by name.

    Raises:
        NotImplementedError: The operator takes no such loop.
    """
    (block,) = node.blocks()
    names = [value.debugName() for value in block.inputs()]
    count, goes_on, *carried = args
    turn = 0
    while isinstance(count, int) and isinstance(goes_on, bool):  # its end is known
        if turn >= count or not goes_on:
            return carried
        values.update(zip(names, (turn, *carried), strict=True))
        goes_on, *carried = run(block, values)
        turn += 1
    if turn == 0 and goes_on is True and _begins_with_none(carried, count):
        values.update(zip(names, (turn, *carried), strict=True))
        goes_on, *carried = run(block, values)  # gives the next a tensor in its place
        turn += 1
    writes.check_results(node)
    return _by_operator(run, node, (turn, goes_on), carried, values)


def _begins_with_none(carried: Sequence[Any], count: Any) -> bool:
    """Whether a loop of one turn or more begins with a variable that has no tensor yet."""
    is_some = isinstance(count, torch.SymInt) and statically_known_true(count >= 1)
    return is_some and any(value is None for value in carried)


class _Round:
    """What goes round: what the loop carries, room for its lists, and what it writes into.

    Attributes:
        start: As tensors, to begin with.
    """

    def __init__(
        self, carried: Sequence[Any], rooms: Sequence[Tensor], written: Sequence[Tensor]
    ) -> None:
        self._ends = len(carried), len(carried) + len(rooms)
        leaves, self._spec = pytree.tree_flatten([*carried, *rooms, *written])
        self._are_whole = [type(leaf) in (int, torch.SymInt) for leaf in leaves]
        self.start = [*map(as_tensor, leaves)]

    def apart(self, tensors: Sequence[Tensor]) -> tuple[list[Any], list[Any], list[Any]]:
        """The three again."""
        found = pytree.tree_unflatten(with_numbers(tensors, self._are_whole), self._spec)
        first, second = self._ends
        return found[:first], found[first:second], found[second:]

    def together(self, *after: Iterable[Any]) -> list[Tensor]:
        """The three behind a turn, as tensors."""
        leaves, spec = pytree.tree_flatten([each for some in after for each in some])
        if spec != self._spec:
            raise NotImplementedError("a loop changes the kind of what it carries")
        return [*map(as_tensor, leaves)]


def _by_operator(
    run: Run, node: Any, state: tuple[int, Any], carried: Sequence[Any], values: Values
) -> Sequence[Any]:
    (block,) = node.blocks()
    names = [value.debugName() for value in block.inputs()]
    first, goes_on = state
    count_name = node.inputsAt(0).debugName()
    most = _most_turns(node, state, carried, values)
    grows = () if most is None else lists_grown(block)
    written = names_written(node, values, grows)
    outer = Outer(node, values, count_name, without=(*grows, *written))
    if first == 0:
        carried = _with_stands(run, node, names, carried, values, written)
    held = {**values, **dict(zip(names[1:], carried, strict=True))}
    carried = _emptied(names, carried, grows)
    rooms = [*_rooms(run, block, names, (first, *carried), most, values, grows)]
    round_ = _Round(carried, rooms, [values[name] for name in written])
    size = len(round_.start)

    def again(turn: Tensor, goes_on: Tensor, *rest: Any) -> Any:
        return (turn < outer.inside(rest[size:])[count_name]) & goes_on

    def body(turn: Tensor, goes_on: Tensor, *rest: Any) -> tuple[Any, ...]:
        inside = outer.inside(rest[size:])
        number = turn.item()
        _check(number >= 0)
        _check(number < inside[count_name])
        carried, rooms, into = round_.apart(rest[:size])
        inside.update(zip(names, (number, *pytree.tree_map(own, carried)), strict=True))
        inside.update({name: [] for name in grows})
        inside.update(zip(written, map(own, into), strict=True))
        goes_on, *after = run(block, inside)
        filled = (
            _filled(room, turn - first, *inside[name])
            for name, room in zip(grows, rooms, strict=True)
        )
        tensors = round_.together(
            _emptied(names, after, grows), filled, [inside[name] for name in written]
        )
        return turn + 1, fresh(goes_on), *tensors

    start = (torch.full((), first), fresh(goes_on), *round_.start)
    turned, _, *ends = _while_loop(again, body, start, outer.operands)
    found, filled, into = round_.apart(ends)
    for name, value in zip(written, into, strict=True):
        values[name].copy_(value)
    if grows and not always_goes_on(block):
        filled = _begun(filled, turned - first, most)
    grown = {name: Grown(held[name], room) for name, room in zip(grows, filled, strict=True)}
    values.update(grown)
    return [grown.get(name, value) for name, value in zip(names[1:], found, strict=True)]


def _most_turns(node: Any, state: tuple[int, Any], carried: Sequence[Any], values: Values) -> Any:
    """How many turns are left at most, if a size tells: so much room has a list that grows."""
    (block,) = node.blocks()
    turn, goes_on = state
    if always_goes_on(block):
        count = values[node.inputsAt(0).debugName()]
        return count - turn if goes_on is True and type(count) is torch.SymInt else None
    counted = counted_to(node)
    return None if counted is None else values[counted[1]] - carried[counted[0]]


def _with_stands(
    run: Run,
    node: Any,
    names: Sequence[str],
    carried: Sequence[Any],
    values: Values,
    written: Sequence[str],
) -> Sequence[Any]:
    """What a loop begins with, where a return in it will give something that is not yet."""
    _, _, *given = node.inputs()
    if not any(map(is_absent, given)):
        return carried
    (block,) = node.blocks()
    at_start = {**values, **dict(zip(names, (0, *carried), strict=True))}
    _, *after = told(run, block, at_start, written)
    triples = zip(given, carried, after, strict=True)
    return [any_like(later) if is_absent(each) else value for each, value, later in triples]


def _rooms(
    run: Run,
    block: Any,
    names: Sequence[str],
    state: Sequence[Any],
    turns: Any,
    values: Values,
    grows: Sequence[str],
) -> Iterator[Tensor]:
    """Room for what each list will hold; a turn tells of what shape, and is thrown away."""
    if not grows:
        return
    inside = {**values, **dict(zip(names, state, strict=True))}
    inside.update({name: [] for name in grows})
    known = symbols(values)
    with disable_proxy_modes_tracing(), known.suppress_guards():
        run(block, inside)
    for name in grows:
        (part,) = inside[name]
        room: Any = (turns, *part.shape)  # its types know no free sizes
        yield torch.zeros(room, dtype=part.dtype, device=part.device)


def _emptied(names: Sequence[str], carried: Sequence[Any], grows: Sequence[str]) -> list[Any]:
    """What a turn carries to the next, where lists that grow go another way."""
    return [[] if name in grows else v for name, v in zip(names[1:], carried, strict=True)]


def _filled(room: Tensor, turn: Tensor, part: Tensor) -> Tensor:
    """The room for a list, with the part that a turn has added at its place."""
    return room.index_copy(0, turn.reshape(1), part.unsqueeze(0))


def _begun(rooms: Sequence[Tensor], turned: Tensor, most: Any) -> list[Tensor]:
    """What turns have filled of rooms that are as long as there may be turns."""
    length: Any = turned.item()
    _check(length >= 0)
    _check(length <= most)
    return [room.narrow(0, 0, length) for room in rooms]
