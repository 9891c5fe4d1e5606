"""Functions that a module holds and that hold it: hooks, and lambdas that close over ``self``.

``copy.deepcopy`` takes a function as it is, so that a hook of a copy would write into the original.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Set
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any, Final

import torch
from torch import nn


class Closures:
    """The functions of a module that close over what it holds, for a copy of it.

    Args:
        module: Looked through, with its containers and with functions that functions close over.

    Attributes:
        known: For ``copy.deepcopy``, by the identities of the originals: copies of the functions,
            and what functions know by a global name, which a copy shares.
    """

    def __init__(self, module: nn.Module) -> None:
        held = _held_by(module)
        functions = [each for each in held.values() if isinstance(each, FunctionType)]
        own = held.keys() - set(map(id, functions))
        while fresh := {id(each) for each in functions if _closes_over(each, own)} - own:
            own |= fresh
        self._cells = {
            id(cell): (cell, CellType())
            for function in functions
            for cell in _filled(function)
            if _of(cell.cell_contents) in own
        }
        self.known: dict[int, Any] = {
            id(each): self._copied(each) for each in functions if id(each) in own
        }
        for function in functions:
            named = (function.__globals__.get(name) for name in function.__code__.co_names)
            shared = (each for each in named if isinstance(each, dict | list))
            self.known |= {id(each): each for each in shared if id(each) in own}

    def fill(self, copies: Mapping[int, Any]) -> None:
        """Let the copied functions close over copies.

        Args:
            copies: What ``copy.deepcopy`` made, by the identities of the originals.
        """
        for cell, copied in self._cells.values():
            value = cell.cell_contents
            if isinstance(value, MethodType):
                holder = value.__self__
                copied.cell_contents = MethodType(value.__func__, copies.get(id(holder), holder))
            else:
                copied.cell_contents = copies.get(id(value), value)

    def _copied(self, function: FunctionType) -> FunctionType:
        copied = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            tuple(
                self._cells.get(id(each), (each, each))[1] for each in function.__closure__ or ()
            ),
        )
        for name in ("__kwdefaults__", "__qualname__", "__module__", "__doc__", "__annotations__"):
            setattr(copied, name, getattr(function, name))
        vars(copied).update(vars(function))
        return copied


def _held_by(module: nn.Module) -> dict[int, Any]:
    """What a module holds, by identity."""
    found: dict[int, Any] = {}
    rest: list[Any] = [module]
    while rest:
        value = rest.pop()
        if id(value) not in found and isinstance(value, _HOLDERS):
            found[id(value)] = value
            rest += _held(value)
    return found


def _held(value: Any) -> Iterator[Any]:
    if isinstance(value, FunctionType):
        contents = (cell.cell_contents for cell in _filled(value))
        yield from (each for each in contents if isinstance(each, FunctionType))
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, nn.Module):
        yield from vars(value).values()
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif not isinstance(value, torch.Tensor):
        yield from value


def _closes_over(function: FunctionType, own: Set[int]) -> bool:
    return any(_of(cell.cell_contents) in own for cell in _filled(function))


def _of(value: object) -> int:
    """The identity of a value, or of what a method is bound to."""
    return id(value.__self__ if isinstance(value, MethodType) else value)


def _filled(function: FunctionType) -> Iterator[CellType]:
    for cell in function.__closure__ or ():
        try:
            _ = cell.cell_contents
        except ValueError:  # nothing is in it yet
            continue
        yield cell


_HOLDERS: Final = (
    *(nn.Module, torch.Tensor, dict, list, tuple, set, deque),
    *(partial, FunctionType, MethodType),
)
