"""Results of a branch or a loop that share memory with what was there before, and are written to.

The operators give new tensors back: ``z = y`` in a branch is a copy behind it, which does not see
what is written into ``y`` there, and ``y`` sees nothing of what is written into ``z``. The older
exporter to ONNX has one name more for what is written into in a branch, and so two tensors, too.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch

from edgeport.runtimes.libtorch.script_graph import nodes


def check_results(graph: Any, node: Any, *, within: bool = False) -> None:
    """See that a result, or what it may be of before, is not written to where the other is read.

    Args:
        graph: Of a script.
        node: The branch or the loop.
        within: Also by its own blocks.

    Raises:
        NotImplementedError: One is.
    """
    aliases = graph.alias_db()
    before = [*_before(graph, node)]
    later = [each for each in nodes(graph) if each.isAfter(node)]
    inside = [each for each in nodes(graph) if within and each != node and _is_in(each, node)]
    writes = [(each, target) for each in later for target in _written_by(each)]
    writes += [(node, target) for each in inside for target in _written_by(each)]
    for result in node.outputs():
        olds = [old for old in before if aliases.may_contain_alias(old, result)]
        names = {old.debugName() for old in olds}
        for writer, target in writes if olds else ():
            if not aliases.may_contain_alias(target, result):
                continue
            others = [result] if writer != node and target.debugName() in names else olds
            if any(_may_follow(use.user, writer, each) for each in others for use in each.uses()):
                raise NotImplementedError(_LOST)


_LOST: Final = "a branch or a loop gives on a tensor from before, and one of both is written into"


def check_all_results(graph: Any) -> None:
    """The same of every branch and loop, by their own blocks, too.

    Raises:
        NotImplementedError: A write would be lost.
    """
    for node in nodes(graph):
        if node.kind() in ("prim::If", "prim::Loop"):
            check_results(graph, node, within=True)


def _before(graph: Any, node: Any) -> Iterator[Any]:
    """Tensors that there may be when a node runs."""
    yield from graph.inputs()
    for other in nodes(graph):
        if _is_in(node, other):
            for block in other.blocks():
                yield from block.inputs()
        elif not _is_in(other, node) and not other.isAfter(node):
            yield from other.outputs()


def _may_follow(user: Any, writer: Any, value: Any) -> bool:
    """Whether a node may run after another, on the same value: later, or in a loop's next turn."""
    for around in _around(writer):
        if around.kind() == "prim::Loop" and _is_in(user, around):
            return True
        if around.owningBlock() == value.node().owningBlock():
            break
    pairs = ((one, other) for one in _around(writer) for other in _around(user))
    return any(
        other.isAfter(one) for one, other in pairs if one.owningBlock() == other.owningBlock()
    )


def _is_in(inner: Any, outer: Any) -> bool:
    """Whether a node is another, or in a block of it."""
    return any(each == outer for each in _around(inner))


def _around(node: Any) -> Iterator[Any]:
    """A node, and those in whose blocks it is."""
    while node is not None:
        yield node
        node = node.owningBlock().owningNode()


def _written_by(node: Any) -> list[Any]:
    """The tensors that a node writes to."""
    if node.kind().startswith("prim::"):
        return []
    arguments = torch._C.parse_schema(node.schema()).arguments
    return [
        value
        for argument, value in zip(arguments, node.inputs(), strict=False)
        if argument.alias_info is not None
        and argument.alias_info.is_write
        and value.type().kind() == "TensorType"
    ]
