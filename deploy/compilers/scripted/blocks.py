"""What the blocks of a branch or a loop use of what is outside, write into, and let grow."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from torch import Tensor

from edgeport.runtimes.libtorch.script_graph import nodes

from .operators import constant
from .writes import schema_of

_CHANGING: Final = tuple(f"aten::{name}" for name in ("_set_item", "insert", "pop", "clear"))


def names_used(node: Any, grows: Sequence[str]) -> set[str]:
    """Values from outside that the blocks of a node use."""
    return {*_names_in(node, grows)} - _names_made(node)


def _names_made(node: Any) -> set[str]:
    """Values that are made in the blocks of a node, as by each turn of a loop anew."""
    found: set[str] = set()
    for block in node.blocks():
        found.update(value.debugName() for value in block.inputs())
        for inner in block.nodes():
            found.update(value.debugName() for value in inner.outputs())
            found |= _names_made(inner)
    return found


def _names_in(node: Any, grows: Sequence[str]) -> Iterator[str]:
    for block in node.blocks():
        yield from (output.debugName() for output in block.outputs())
        for inner in nodes(block):
            if (grown := _grown_by(inner)) and grown not in grows:
                raise NotImplementedError(
                    "a list grows in a branch, or is read in the loop in which it grows"
                )
            if inner.kind() in _CHANGING:
                raise NotImplementedError("a branch or a loop changes what a list holds")
            yield from (value.debugName() for value in inner.inputs())
            for deeper in inner.blocks():
                yield from (output.debugName() for output in deeper.outputs())


def lists_grown(block: Any) -> tuple[str, ...]:
    """Lists from outside to which each turn adds one part, and that it does not read."""
    inside = {output.debugName() for node in nodes(block) for output in node.outputs()}
    at_top = Counter(filter(None, map(_grown_by, block.nodes())))
    read = Counter(value.debugName() for node in nodes(block) for value in node.inputs())
    return tuple(
        name for name, times in at_top.items() if times == read[name] == 1 and name not in inside
    )


def counted_to(node: Any) -> tuple[int, str] | None:
    """What counts the turns of a loop that may end before, and to which number from outside.

    Returns:
        The place of the count among what the loop carries, and the name of the number, as of
        ``for i in range(n)`` with a ``break``; ``None`` if there are none.
    """
    (block,) = node.blocks()
    _, *names = (value.debugName() for value in block.inputs())
    goes_on, *carried = block.outputs()
    sides = goes_on.node().inputs() if goes_on.node().kind() == "aten::__and__" else ()
    for asks in (side.node() for side in sides):
        if asks.kind() != "aten::lt" or asks.inputsAt(0).node().kind() != "aten::add":
            continue
        counted, most = asks.inputs()
        before, step = counted.node().inputs()
        for place, (name, after) in enumerate(zip(names, carried, strict=True)):
            is_count = name == before.debugName() and after.debugName() == counted.debugName()
            by_one = step.node().kind() == "prim::Constant" and constant(step.node()) == 1
            if is_count and by_one and most.debugName() not in _names_made(node):
                return place, most.debugName()
    return None


def always_goes_on(block: Any) -> bool:
    """Whether nothing but the number of its turns ends a loop."""
    goes_on = next(block.outputs()).node()
    return bool(goes_on.kind() == "prim::Constant" and constant(goes_on) is True)


def _grown_by(node: Any) -> str | None:
    """The list that a node adds one part to."""
    if node.kind() == "aten::add_" and node.inputsAt(1).node().kind() == "prim::ListConstruct":
        is_read = any(use.user.kind() != "prim::Return" for use in node.output().uses())
        is_one = len([*node.inputsAt(1).node().inputs()]) == 1 and not is_read
        return node.inputsAt(0).debugName() if is_one else None
    return node.inputsAt(0).debugName() if node.kind() == "aten::append" else None


def names_written(node: Any, values: Mapping[str, Any], grows: Sequence[str] = ()) -> list[str]:
    """Tensors from outside that the blocks of a node write into, also through views of them.

    What a loop carries is none: each turn gives another on.

    Args:
        node: The branch or the loop.
        values: What there is, by name.
        grows: Lists that grow in the loop, which are no matter here.

    Raises:
        NotImplementedError: Another one that they use shares memory with it, and would not change.
    """
    tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    written = sorted(_written_from_outside(node) & tensors.keys())
    is_branch = node.kind() == "prim::If"  # its condition was asked before
    given = {value.debugName() for value in node.inputs() if not is_branch}
    used = (given | names_used(node, grows)) & tensors.keys()
    for name in written:
        whole = _whole(tensors[name])
        if name in given or any(_whole(tensors[each]) is whole for each in used - {name}):
            raise NotImplementedError(
                "a branch or a loop writes into a tensor, and uses a view of it from before"
            )
    return written


def _written_from_outside(node: Any) -> set[str]:
    sources: dict[str, set[str]] = {}
    found: set[str] = set()
    made: set[str] = set()

    def of(value: Any) -> set[str]:
        return sources.get(name := value.debugName(), {name})

    for inner in _inmost_first(node):
        outputs = [output.debugName() for output in inner.outputs()]
        made.update(outputs)
        for block in inner.blocks():
            made.update(value.debugName() for value in block.inputs())
            for name, output in zip(outputs, block.outputs(), strict=False):
                if inner.kind() == "prim::If":
                    sources[name] = sources.get(name, set()) | of(output)
        shared: set[str] = set()
        schema = schema_of(inner)
        for argument, value in zip(
            schema.arguments if schema else (), inner.inputs(), strict=False
        ):
            if argument.alias_info is not None:
                shared |= of(value)
                found |= of(value) if argument.alias_info.is_write else set()
        for name, result in zip(outputs, schema.returns if schema else (), strict=False):
            if result.alias_info is not None:
                sources[name] = shared
    own = {value.debugName() for block in node.blocks() for value in block.inputs()}
    return found - made - own


def _whole(tensor: Tensor) -> Tensor:
    """What a view is a part of."""
    whole = tensor._base if tensor._is_view() else None
    return tensor if whole is None else whole


def _inmost_first(node: Any) -> Iterator[Any]:
    """All nodes in the blocks of one."""
    for block in node.blocks():
        for inner in block.nodes():
            yield from _inmost_first(inner)
            yield inner
