"""What the code of a module keeps outside of it, where no copy of the module has one of its own.

Attributes of classes and objects, globals, default values and closures: a cache that is filled by
the first call is the same for every later one, so that only a process that never ran the module
shows it. What is looked at is what the user's functions name, and what those names lead to.
"""

import contextlib
import copy
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
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
        value = self._held()
        return value if _bears_reading(value) else _ABSENT

    def _held(self) -> object:
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
        asked = ((place, place.get()) for place in found.values())
        values = [(place, value) for place, value in asked if not _is_opaque(value)]
        copies = _copies([value for _, value in values])
        return cls(tuple(_Kept(p, _digest(v), copies[id(v)]) for p, v in values))

    def changed(self) -> list[str]:
        """The names of what is no longer what it was."""
        return [kept.place.name for kept in self._changed()]

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Have what has changed as it was, for a while."""
        changed = self._changed()
        now = [(kept.place, kept.place.get()) for kept in changed]
        copies = _copies([kept.value for kept in changed])
        try:
            for kept in changed:
                kept.place.put(copies[id(kept.value)])
            yield
        finally:
            for place, after in now:
                place.put(after)

    def _changed(self) -> list[_Kept]:
        return [kept for kept in self.kept if _digest(kept.place.get()) != kept.digest]


def _bears_reading(value: object) -> bool:
    """Whether it answers at all: not what stands for something that is not loaded or built yet."""
    try:
        _ = value.__class__, hasattr(value, "__dict__")
    except Exception:
        return False
    return True


def _is_opaque(value: object) -> bool:
    """Whether it is a mapping of a type of its own, which may load or ask what it lists."""
    return isinstance(value, Mapping) and type(value).__module__ not in ("builtins", "collections")


def _digest(value: object) -> str:
    return "" if value is _ABSENT else digest(value)


def _copies(values: Sequence[object]) -> dict[int, Any]:
    """Copies by the identities of values: what is one in two places is one again."""
    return {id(value): _copy(value) for value in {id(value): value for value in values}.values()}


def _copy(value: Any) -> Any:
    """A copy of the tensors, arrays and containers in it; all else is taken as it is."""
    if isinstance(value, nn.Module):
        return value
    try:
        return trees.with_leaves(value, _copied_leaf)
    except Exception:  # it leads to itself, or a type of the user's is made otherwise
        return value


def _copied_leaf(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().clone()
    return copy.copy(leaf) if isinstance(leaf, np.ndarray | set | deque) else leaf


def _places(module: nn.Module) -> Iterator[_Place]:
    """Where its classes and what they lead to may keep something."""
    classes = (base for part in module.modules() for base in _own_bases(type(part)))
    rest: list[tuple[str, Any]] = [("", kind) for kind in classes]
    seen: set[int] = set()
    while rest:
        name, value = rest.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        places = [*_places_in(name, value)]
        yield from places
        found = [(place.name, place.get()) for place in places]
        kinds = _own_bases(value if isinstance(value, type) else type(value))
        found += [("", each) for kind in kinds for each in (kind, *_functions(kind))]
        rest += ((n, each) for n, v in found for each in _unwrapped(v) if _is_looked_into(each))


def _places_in(name: str, value: Any) -> Iterator[_Place]:
    if isinstance(value, FunctionType):
        yield from _of_function(value)
    elif isinstance(value, type):
        yield from _named(value.__name__, value, [*vars(value), *_names_in(value)])
    else:
        yield from _named(name, vars(value), [*vars(value), *_names_in(type(value))])


def _of_function(function: FunctionType) -> Iterator[_Place]:
    """Its default values, its closure, and what it names: globals, and attributes of those."""
    for key in ("__defaults__", "__kwdefaults__"):
        yield _Place(f"the default values of {function.__qualname__}", function, key)
    around, names = function.__globals__, [*_names(function)]
    known = [*_named(str(around.get("__name__", "")), around, names), *_closure(function)]
    yield from known
    for place in known:
        value = place.get()
        if isinstance(value, ModuleType) and _is_file(getattr(value, "__file__", None)):
            yield from _named(value.__name__, vars(value), names)
        elif isinstance(value, type) and _is_own(value):
            yield from _named(value.__name__, value, names)
        elif not isinstance(value, FunctionType) and _is_looked_into(value):
            yield from _named(place.name, vars(value), names)


def _closure(function: FunctionType) -> Iterator[_Place]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":
            yield _Place(f"{name} in {function.__qualname__}", cell, "cell_contents")


def _named(title: str, holder: Any, keys: Sequence[str]) -> Iterator[_Place]:
    for key in dict.fromkeys(keys):
        if not key.startswith("__"):
            yield _Place(f"{title}.{key}", holder, key)


def _is_looked_into(value: object) -> bool:
    """Whether it is a function, a class or a plain object of the user's."""
    if isinstance(value, FunctionType):
        return _is_file(value.__code__.co_filename)
    if isinstance(value, type):
        return _is_own(value)
    is_known = isinstance(value, nn.Module | torch.Tensor | ModuleType) or trees.is_branch(value)
    return not is_known and hasattr(value, "__dict__") and _is_own(type(value))


def _own_bases(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if _is_own(base)]


def _names_in(kind: type) -> Iterator[str]:
    """What the functions of a class, and of those it inherits from, read or write."""
    for base in _own_bases(kind):
        for function in _functions(base):
            yield from _names(function)


def _functions(kind: type) -> Iterator[FunctionType]:
    for value in filter(_bears_reading, vars(kind).values()):
        function = value
        if isinstance(value, staticmethod | classmethod):
            function = value.__func__
        elif isinstance(value, property):
            function = value.fget
        yield from (each for each in _unwrapped(function) if isinstance(each, FunctionType))


def _unwrapped(value: object) -> Iterator[object]:
    """A value, and what is behind it where decorators are."""
    while value is not None and _bears_reading(value):
        yield value
        value = getattr(value, "__dict__", {}).get("__wrapped__")


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
