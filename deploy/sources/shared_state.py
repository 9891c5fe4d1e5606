"""What the code of a module keeps outside of it, where no copy of the module has one of its own.

Attributes of classes, globals, default values and closures: a cache that is filled by the first
call is the same for every later one, so that only a process that never ran the module shows it.
"""

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final, Self

import numpy as np
import torch
from torch import nn

from edgeport.deploy.origins import Origin, origin

from . import trees
from .state import digest

_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class _Place:
    """One value: of a dictionary of globals by its key, of anything else by its attribute."""

    name: str
    holder: Any
    key: str

    def get(self) -> object:
        if isinstance(self.holder, dict):
            return self.holder.get(self.key, _ABSENT)
        if isinstance(self.holder, type):  # not what it inherits, and no descriptor's value
            return vars(self.holder).get(self.key, _ABSENT)
        try:
            return getattr(self.holder, self.key, _ABSENT)
        except ValueError:  # a cell that is not filled yet
            return _ABSENT

    def put(self, value: object) -> None:
        if isinstance(self.holder, dict):
            self.holder.pop(self.key, None)
            self.holder.update({} if value is _ABSENT else {self.key: value})
        elif value is _ABSENT:
            delattr(self.holder, self.key)
        else:
            setattr(self.holder, self.key, value)


@dataclass(frozen=True, slots=True)
class _Kept:
    place: _Place
    digest: str
    value: object


@dataclass(frozen=True, slots=True)
class SharedState:
    """What was kept outside of a module at one time."""

    kept: tuple[_Kept, ...] = ()

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        """What is kept now."""
        found = {(id(place.holder), place.key): place for place in _places(module)}
        values = [(place, place.get()) for place in found.values()]
        return cls(tuple(_Kept(p, _digest(v), _copy(v)) for p, v in values if not _is_opaque(v)))

    def changed(self) -> list[str]:
        """The names of what is no longer what it was."""
        return [kept.place.name for kept in self._changed()]

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Have what has changed as it was, for a while."""
        now = [(kept.place, kept.place.get(), kept.value) for kept in self._changed()]
        try:
            for place, _, before in now:
                place.put(_copy(before))
            yield
        finally:
            for place, after, _ in now:
                place.put(after)

    def _changed(self) -> list[_Kept]:
        return [kept for kept in self.kept if _digest(kept.place.get()) != kept.digest]


def _is_opaque(value: object) -> bool:
    """Whether it is a mapping of a type of its own, which may load or ask what it lists."""
    return isinstance(value, Mapping) and type(value).__module__ not in ("builtins", "collections")


def _digest(value: object) -> str:
    return "" if value is _ABSENT else digest(value)


def _copy(value: Any) -> Any:
    """A copy of the tensors and containers in it; all else is taken as it is."""
    if isinstance(value, nn.Module):
        return value
    if isinstance(value, np.ndarray):
        return value.copy()
    try:
        return trees.filled(value, iter([t.detach().clone() for t in trees.tensors(value)]))
    except Exception:  # it leads to itself, or a type of the user's is made otherwise
        return value


def _places(module: nn.Module) -> Iterator[_Place]:
    """Where its classes and what they call may keep something."""
    classes = dict.fromkeys(kind for part in module.modules() for kind in type(part).__mro__)
    own = {kind: list(_functions(kind)) for kind in classes if _is_own(kind)}
    for kind in own:
        inherited = (own.get(base, []) for base in kind.__mro__)
        used = (name for functions in inherited for each in functions for name in _names(each))
        for key in dict.fromkeys([*vars(kind), *used]):
            if not key.startswith("__"):
                yield _Place(f"{kind.__name__}.{key}", kind, key)
    for function in _reached([function for functions in own.values() for function in functions]):
        yield from _of_function(function)
        names = list(_names(function))
        for holder, title in _holders(function, names):
            yield from (_Place(f"{title}.{name}", holder, name) for name in names)


def _of_function(function: FunctionType) -> Iterator[_Place]:
    for key in ("__defaults__", "__kwdefaults__"):
        yield _Place(f"the default values of {function.__qualname__}", function, key)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":
            yield _Place(f"{name} in {function.__qualname__}", cell, "cell_contents")


def _holders(function: FunctionType, names: list[str]) -> Iterator[tuple[Any, str]]:
    """Its globals, and the Python modules and plain objects of the user's among them."""
    around = function.__globals__
    yield around, str(around.get("__name__", ""))
    for name in names:
        value = around.get(name)
        if _is_holder(value):
            yield vars(value), name


def _is_holder(value: object) -> bool:
    if isinstance(value, ModuleType):
        return _is_file(getattr(value, "__file__", None))
    is_looked_into = isinstance(value, nn.Module | torch.Tensor) or trees.children(value)
    return hasattr(value, "__dict__") and _is_own(type(value)) and not is_looked_into


def _reached(functions: list[FunctionType]) -> Iterator[FunctionType]:
    """Functions, and those among their globals that they call by name."""
    seen: set[int] = set()
    while functions:
        function = functions.pop()
        if id(function) in seen or not _is_file(function.__code__.co_filename):
            continue
        seen.add(id(function))
        yield function
        called = (function.__globals__.get(name) for name in _names(function))
        functions += [each for each in called if isinstance(each, FunctionType)]


def _functions(kind: type) -> Iterator[FunctionType]:
    for value in vars(kind).values():
        function = value
        if isinstance(value, staticmethod | classmethod):
            function = value.__func__
        elif isinstance(value, property):
            function = value.fget
        while isinstance(function, FunctionType):
            yield function
            function = getattr(function, "__wrapped__", None)  # behind a decorator


def _names(function: FunctionType) -> Iterator[str]:
    """The globals and attributes that it reads or writes, also in functions within it."""
    codes = [function.__code__]
    while codes:
        code = codes.pop()
        yield from code.co_names
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]


def _is_own(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)  # in a notebook it has no file
    return kind.__module__ == "__main__" or _is_file(getattr(module, "__file__", None))


def _is_file(file: str | None) -> bool:
    return file is not None and origin(file) is not Origin.COMPILER
