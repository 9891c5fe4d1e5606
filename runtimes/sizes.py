"""Sizes that follow others: a mask of ``past+time`` places, a map of ``2*height`` rows."""

from collections.abc import Iterable, Mapping
from typing import Final

from .values import dataclass

_MOST_DIGITS: Final = 10
"""What is longer is larger than any size."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Free dimensions, each some times, and a number.

    Attributes:
        factors: By the name of a dimension; 1 or more.
        constant: What is added; may be negative.

    Examples:
        >>> sum_of("2*height-1")
        Sum(factors={'height': 2}, constant=-1)
    """

    factors: Mapping[str, int]
    constant: int

    def __str__(self) -> str:
        names = (f"{n}*{name}" if n > 1 else name for name, n in self.factors.items())
        return "+".join(names) + (f"{self.constant:+d}" if self.constant else "")

    def at(self, sizes: Mapping[str, int]) -> int:
        """How much it is at these sizes of its dimensions."""
        return self.constant + sum(n * sizes[name] for name, n in self.factors.items())


def sum_of(size: str) -> Sum | None:
    """Read a size that follows others, as a signature spells it; ``None`` for any other name.

    Other exporters write ``past + 1``, and mean one kind of calls: that is a name as any.

    Examples:
        >>> sum_of("time"), sum_of("past + 1"), sum_of("max-length")
        (None, None, None)
    """
    found = None if size.isidentifier() else _read(size)
    return found if str(found) == size else None


def spelled(size: str) -> str:
    """What a person wrote for a size, as a signature spells it.

    Examples:
        >>> spelled("1 + 2 * height"), spelled("time")
        ('2*height+1', 'time')
    """
    found = _read(size)
    return size if found is None else str(found)


def _read(size: str) -> Sum | None:
    factors: dict[str, int] = {}
    constant = 0
    for part in size.replace("- ", "-").replace("-", "+-").split("+"):
        factor, name = (text.strip() for text in part.rpartition("*")[::2])
        if _is_number(name) and factor:
            factor, name = name, factor
        if name.isidentifier() and (not factor or _is_number(factor)):
            factors[name] = factors.get(name, 0) + int(factor or 1)
        elif not factor and _is_number(name.removeprefix("-")):
            constant += int(name)
        else:
            return None
    return Sum(factors, constant) if factors and all(factors.values()) else None


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MOST_DIGITS


def names_in(sizes: Iterable[int | str]) -> set[str]:
    """The dimensions that entries of shapes are, or follow.

    Examples:
        >>> sorted(names_in([4, "time", "2*height-1"]))
        ['height', 'time']
    """
    found: set[str] = set()
    for size in sizes:
        if isinstance(size, str):
            follows = sum_of(size)
            found |= {size} if follows is None else follows.factors.keys()
    return found


def size_at(size: int | str, sizes: Mapping[str, int]) -> int:
    """What an entry of a shape is at these sizes of the free dimensions.

    Raises:
        KeyError: It is, or follows, a dimension that has no size here.

    Examples:
        >>> [size_at(size, {"past": 5, "time": 3}) for size in (4, "time", "past+time")]
        [4, 3, 8]
    """
    if isinstance(size, int):
        return size
    if size in sizes:
        return sizes[size]
    follows = sum_of(size)
    if follows is None:
        raise KeyError(size)
    return follows.at(sizes)
