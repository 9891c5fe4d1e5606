"""Nested values: what people pass to a module, and what it gives back.

A tree is a tensor, a constant, or a tuple, named tuple, list, mapping, dataclass or registered
pytree of trees. An artefact has a flat list of tensors; names say where each one was.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch.utils import _pytree

from edgeport.runtimes.structure import Node

CONSTANTS: Final = (type(None), bool, int, float, str)
"""What a tree may hold beside tensors, and a signature can record."""


def named_tensors(tree: object, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a tree in order, each with a readable name.

    ``name`` alone; ``name_0``, ``name_1`` in a tuple; ``name_key`` in a mapping or an object.
    """
    if isinstance(tree, torch.Tensor):
        yield name, tree
    for key, child in children(tree):
        yield from named_tensors(child, f"{name}_{key}" if name else str(key))


def tensors(tree: object) -> Iterator[torch.Tensor]:
    """The tensors of a tree, in order."""
    if isinstance(tree, torch.Tensor):
        yield tree
    else:
        for _, child in children(tree):
            yield from tensors(child)


def others(tree: object) -> Iterator[object]:
    """What is neither a tensor, nor a constant, nor made of them."""
    if not (isinstance(tree, (torch.Tensor, *CONSTANTS)) or is_branch(tree)):
        yield tree
    for _, child in children(tree):
        yield from others(child)


def constants(tree: object, name: str) -> Iterator[tuple[str, object]]:
    """The constants of a tree, each with the name of its place."""
    if isinstance(tree, CONSTANTS):
        yield name, tree
    for key, child in children(tree):
        yield from constants(child, f"{name}.{key}" if name else str(key))


def filled(tree: Any, replacements: Iterator[torch.Tensor]) -> Any:
    """The same tree with other tensors, taken in order."""
    if isinstance(tree, torch.Tensor):
        return next(replacements)
    if not is_branch(tree):
        return tree
    return _rebuilt(tree, [filled(child, replacements) for _, child in children(tree)])


def with_tensors(tree: Any) -> Any:
    """The same tree with tensors in place of numpy arrays."""
    return with_leaves(tree, _as_tensor)


def _as_tensor(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "OSU":
        return torch.tensor(leaf.astype(leaf.dtype.newbyteorder("="), copy=False))
    return leaf


def with_leaves(tree: Any, replace: Callable[[Any], Any]) -> Any:
    """The same tree with other leaves: tensors, constants, and what is neither."""
    if isinstance(tree, torch.Tensor) or not is_branch(tree):
        return replace(tree)
    return _rebuilt(tree, [with_leaves(child, replace) for _, child in children(tree)])


def structure(tree: object, names: Iterator[str]) -> Node:
    """How the tensors of a tree are nested, as a signature records it.

    Args:
        tree: Tensors and constants only.
        names: Of the tensors, in order.
    """
    if isinstance(tree, torch.Tensor):
        return {"output": next(names)}
    if not is_branch(tree):
        return {"constant": tree}
    nodes = [(key, structure(child, names)) for key, child in children(tree)]
    if is_object(tree):
        return {"object": type(tree).__name__, "fields": [[str(key), node] for key, node in nodes]}
    if isinstance(tree, Mapping):
        return {"dict": [[key if type(key) is int else str(key), node] for key, node in nodes]}
    return {"list" if isinstance(tree, list) else "tuple": [node for _, node in nodes]}


def is_branch(tree: object) -> bool:
    """Whether it is made of other trees; what they are is not asked."""
    return isinstance(tree, tuple | list | Mapping) or _is_dataclass(tree) or _is_pytree(tree)


def is_object(tree: object) -> bool:
    """Whether it has named fields: a dataclass, a named tuple, a registered pytree."""
    return _is_dataclass(tree) or hasattr(tree, "_fields") or _is_pytree(tree)


def _is_dataclass(tree: object) -> bool:
    return dataclasses.is_dataclass(tree) and not isinstance(tree, type)


def _is_pytree(tree: object) -> bool:
    plain = isinstance(tree, tuple | list | dict)
    return not plain and type(tree) in _pytree.SUPPORTED_NODES


def children(tree: Any) -> list[tuple[Any, object]]:
    """What is directly in a tree, by key; nothing in a leaf."""
    if isinstance(tree, Mapping):  # first: a ModelOutput is a mapping too, without its Nones
        return list(tree.items())
    if isinstance(tree, tuple | list):
        names = getattr(tree, "_fields", None)  # no length is asked: e3nn's are tuples without one
        return list(enumerate(tree)) if names is None else list(zip(names, tree, strict=True))
    if _is_dataclass(tree):
        return [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    if _is_pytree(tree):
        return list(enumerate(_pytree.SUPPORTED_NODES[type(tree)].flatten_fn(tree)[0]))
    return []


def _rebuilt(tree: Any, parts: list[object]) -> object:
    if type(tree) is dict:  # told apart because torch's bytecode reader knows no dict.copy
        return dict(zip(tree, parts, strict=True))
    if hasattr(tree, "_make"):
        return tree._make(parts)
    if isinstance(tree, tuple | list):
        return type(tree)(parts)
    if not isinstance(tree, Mapping) and _is_pytree(tree):
        node = _pytree.SUPPORTED_NODES[type(tree)]
        return node.unflatten_fn(parts, node.flatten_fn(tree)[1])
    new: Any = copy.copy(tree)
    put = type(new).__setitem__ if isinstance(tree, Mapping) else object.__setattr__
    for (key, _), child in zip(children(tree), parts, strict=True):
        put(new, key, child)  # past the __setattr__ of a frozen dataclass
    return new
