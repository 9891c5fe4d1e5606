"""Nodes of a captured program: where they are, what they are given, and new ones."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import GraphModule, Node


def parts(module: torch.nn.Module) -> Iterator[GraphModule]:
    """The graphs of a module: its own, and those of the branches and loops in it."""
    return (part for part in module.modules() if isinstance(part, GraphModule))


def nodes_of(module: torch.nn.Module) -> Iterator[Node]:
    """The nodes of all its graphs; one may be replaced while they are gone through."""
    return (node for part in parts(module) for node in part.graph.nodes)


def is_drawn(node: Node) -> bool:
    """Whether it makes random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def value_of(argument: Any) -> Any:
    """What torch knows of what a node makes; anything else is its own value."""
    return argument.meta["val"] if isinstance(argument, Node) else argument


def arguments(node: Node) -> dict[str, Any]:
    """What an operator is given, by the names that it has for it, with what it takes by default."""
    target: Any = node.target
    asked = target._schema.arguments
    given = {**dict(zip((each.name for each in asked), node.args, strict=False)), **node.kwargs}
    return {each.name: given.get(each.name, each.default_value) for each in asked}


def made(function: Any, *given: Any) -> Node:
    """A new node of sizes and numbers, at the place where its graph inserts."""
    graph = next(each.graph for each in given if isinstance(each, Node))
    node = graph.call_function(function, given)
    node.meta["val"] = function(*map(value_of, given))
    return node


def computed(function: Any, a: Any, b: Any) -> Any:
    """The same of two; of two numbers the number."""
    is_known = not isinstance(a, Node) and not isinstance(b, Node)
    return function(a, b) if is_known else made(function, a, b)
