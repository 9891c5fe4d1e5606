"""What torch has once for the whole process, and each session changes while it is open."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")


class ProcessSetting(Generic[T]):
    """One such setting: the newest change holds, and each can be undone, in any order.

    Args:
        read: What it is now.
        write: Sets it.
    """

    def __init__(self, read: Callable[[], T], write: Callable[[T], object]) -> None:
        self._read = read
        self._write = write
        self._changes: list[_Change[T]] = []

    def change(self, change: Callable[[], object]) -> Callable[[], None]:
        """Change it; what is returned undoes that, and is called once."""
        before = self._read()
        change()
        made = _Change(before, self._read())
        self._changes.append(made)
        return partial(self._undo, made)

    def _undo(self, made: "_Change[T]") -> None:
        place = self._changes.index(made)
        del self._changes[place]
        if place == len(self._changes):  # the newest
            self._write(made.before)
        elif self._changes[place].before == made.after:  # unless somebody else set it in between
            self._changes[place].before = made.before


@dataclass(eq=False, slots=True)
class _Change(Generic[T]):
    before: T
    after: T
