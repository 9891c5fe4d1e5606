"""Calls of a module that writes into tensors of its own take turns.

A table that each call fills up anew, ``self.table[:n] = x``, is right in eager, call after call,
and in a file; but of two threads in one session, one would read what the other has written.
"""

import operator
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from .script_graph import nodes


def in_turn(call: Callable[..., Any]) -> Callable[..., Any]:
    """One call after the other; no answer shares memory with what the next one writes into."""
    lock: Any = threading.Lock()
    # as the standard library does: it may be held where a process is forked
    os.register_at_fork(after_in_child=lock._at_fork_reinit)

    def alone(*tensors: torch.Tensor) -> Any:
        with lock:
            result = call(*tensors)
            if isinstance(result, torch.Tensor):
                return result.clone()
            return tuple(tensor.clone() for tensor in result)

    return alone


def writes_to_itself(module: torch.nn.Module) -> bool:
    """Whether a call leaves something else in a script, or a program, than was there before."""
    if isinstance(module, torch.jit.ScriptModule):
        parts: list[Any] = [part._c for part in module.modules()]  # untyped
        methods = (part._get_method(name) for part in parts for name in part._method_names())
        return any(_script_writes(method.graph) for method in methods)
    return isinstance(module, GraphModule) and any(map(_is_own, _written(module)))


def _script_writes(graph: Any) -> bool:
    """A frozen file has attributes only if it writes into them: all others are constants."""
    own = []
    for node in nodes(graph):
        if node.kind() == "prim::SetAttr":
            return True
        if node.kind() == "prim::GetAttr" and node.output().type().kind() != "ClassType":
            own.append(node.output())
    aliases = graph.alias_db()
    return any(aliases.has_writers(value) for value in own)


def _written(module: GraphModule) -> Iterator[Node]:
    """What the operators of a program write into."""
    for node in module.graph.nodes:
        if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
            continue
        arguments = node.target._schema.arguments
        names = (argument.name for argument in arguments)
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        for argument in arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                value = given.get(argument.name)
                parts = value if isinstance(value, list | tuple) else [value]
                yield from (part for part in parts if isinstance(part, Node))


def _is_own(node: Node) -> bool:
    """Whether it is a tensor of the program, or a view of one."""
    while node.op == "call_function" and node.args and isinstance(node.args[0], Node):
        target: Any = node.target
        is_view = target is operator.getitem or (
            isinstance(target, torch._ops.OpOverload)
            and bool(target._schema.arguments)
            and target._schema.arguments[0].alias_info is not None
        )
        if not is_view:
            return False
        node = node.args[0]
    return node.op == "get_attr"
