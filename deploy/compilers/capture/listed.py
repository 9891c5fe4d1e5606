"""Lists of values that are an index again: ``rows = hit.tolist()``, ``x[rows]``.

The index is the tensor of which the list was made; nothing is asserted of how long it is. Whoever
reads the list in Python gets its numbers.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from . import rows

T = TypeVar("T")


def kept(capture: Callable[[], T]) -> T:
    """Capture with lists that are read late, or without, if torch reads one by itself.

    Raises:
        Exception: Whatever capturing raises.
    """
    made: list[_Listed] = []
    try:
        with _made(made):
            return capture()
    except Exception:  # capturing raises anything
        if not made:
            raise
    return capture()


class _Listed(list[Any]):
    """What a tensor has, read when Python asks for it; torch finds in it what is no number."""

    def __init__(self, tensor: Tensor, read: Callable[[], list[Any]]) -> None:
        super().__init__([_UNREAD, _UNREAD])
        self.tensor: Tensor | None = tensor
        self._read = read

    def __radd__(self, before: list[Any]) -> list[Any]:
        """For ``[0] + rows``, which reads it in C otherwise."""
        return [*before, *self]

    def __bool__(self) -> bool:
        """For ``if rows:``, as ``if hit.numel() > 0:`` asks."""
        return len(self) > 0 if self.tensor is None else bool(self.tensor.shape[0] > 0)

    def read(self) -> None:
        """Ask for its numbers, as they are then asserted."""
        if self.tensor is not None:
            self.tensor = None  # what is read may be changed
            super().__init__(self._read())


_UNREAD: Final = object()
"""Torch, which reads what a list holds, takes it for no number."""


def _reading(name: str) -> Callable[..., Any]:
    own = getattr(list, name)

    def method(self: _Listed, *args: Any, **options: Any) -> Any:
        self.read()
        return own(self, *args, **options)

    return method


for _name in (
    *("__add__", "__contains__", "__delitem__", "__eq__", "__ge__", "__getitem__", "__gt__"),
    *("__iadd__", "__imul__", "__iter__", "__le__", "__len__", "__lt__", "__mul__", "__ne__"),
    *("__repr__", "__reversed__", "__rmul__", "__setitem__", "append", "clear", "copy", "count"),
    *("extend", "index", "insert", "pop", "remove", "reverse", "sort"),
):
    setattr(_Listed, _name, _reading(_name))


@contextlib.contextmanager
def _made(made: list[_Listed]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        own: Any = FakeTensor.tolist
        stack.enter_context(mock.patch.object(FakeTensor, "tolist", _late(own, made)))
        for name in ("__getitem__", "__setitem__"):
            own = getattr(Tensor, name)
            stack.enter_context(mock.patch.object(Tensor, name, _indexed(own)))
        stack.enter_context(mock.patch.object(Tensor, "split", _split(Tensor.split)))
        yield


def _late(own: Any, made: list[_Listed]) -> Any:
    def tolist(x: Tensor) -> Any:
        if x.dim() != 1 or not rows.has_any_count(x):
            return own(x)
        made.append(_Listed(x, lambda: list(own(x))))
        return made[-1]

    return tolist


def _indexed(own: Any) -> Any:
    def index(x: Tensor, places: Any, *value: Any) -> Any:
        each = tuple(map(_as_tensor, places)) if isinstance(places, tuple) else _as_tensor(places)
        return own(x, each, *value)

    return index


def _split(own: Any) -> Any:
    """Counts are sizes: they may rise by chance, as places do, and are no constants."""

    def split(x: Tensor, split_size: Any, dim: int = 0) -> Any:
        counts = _as_tensor(split_size)
        if counts is not split_size:
            split_size = [count.item() for count in counts.unbind()]
        return own(x, split_size, dim)

    return split


def _as_tensor(place: Any) -> Any:
    if isinstance(place, _Listed) and place.tensor is not None:
        return place.tensor
    if isinstance(place, list) and any(isinstance(each, torch.SymInt) for each in place):
        return torch.stack([_full((), each) for each in place])  # ``x[[i, j]]``
    return place


_full: Callable[..., Tensor] = torch.full
