"""Results of a branch or a loop that share memory with what was there before, and are written to.

The operators give new tensors back: ``z = y`` in a branch is a copy behind it, which does not see
what is written into ``y`` there, and ``y`` sees nothing of what is written into ``z``.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from edgeport.runtimes.libtorch.script_graph import nodes


class Writes:
    """What a script writes into, and what else may be that.

    Args:
        graph: Of the script.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._aliases = graph.alias_db()
        self._all = [(node, target) for node in nodes(graph) for target in _written_by(node)]

    def check_parts(self, node: Any) -> None:
        """See that nothing writes into the parts of a tensor that a node makes a list of.

        Args:
            node: As of ``aten::split``.

        Raises:
            NotImplementedError: Something does: the parts are copies.
        """
        (parts,) = node.outputs()
        for writer, target in self._all:
            if writer.isAfter(node) and self._aliases.may_contain_alias(target, parts):
                raise NotImplementedError(
                    "a branch or a loop writes into a part of a tensor, taken from a list of them"
                )

    def check_results(self, node: Any) -> None:
        """See that no result is written to where what it may be of before is read, nor that there.

        Args:
            node: The branch or the loop.

        Raises:
            NotImplementedError: One is.
        """
        for result in node.outputs():
            written = [
                (writer, target)
                for writer, target in self._all
                if self._aliases.may_contain_alias(target, result) and writer.isAfter(node)
            ]
            if not written:
                continue
            before = _before(self._graph, node)
            olds = [old for old in before if self._aliases.may_contain_alias(old, result)]
            names = {old.debugName() for old in olds}
            for writer, target in written:
                others = [result] if target.debugName() in names else olds
                if _are_used_after(others, writer):
                    raise NotImplementedError(
                        "a branch or a loop gives on a tensor from before, and one of both is "
                        "written into"
                    )


def _are_used_after(values: Sequence[Any], writer: Any) -> bool:
    return any(_may_follow(use.user, writer, each) for each in values for use in each.uses())


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
    schema = schema_of(node)
    return [
        value
        for argument, value in zip(schema.arguments if schema else (), node.inputs(), strict=False)
        if argument.alias_info is not None
        and argument.alias_info.is_write
        and value.type().kind() == "TensorType"
    ]


def schema_of(node: Any) -> Any:
    """What a node says of its arguments and results; ``None`` if it says nothing."""
    text = node.schema()
    parse: Any = torch._C.parse_schema
    return None if text == "(no schema)" else parse(text)
