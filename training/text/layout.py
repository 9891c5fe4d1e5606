"""How a vectorizer's tables are used: the numbers that are no tensors. Plain JSON in a run."""

from dataclasses import dataclass
from typing import Literal

from .options import Analyzer


@dataclass(frozen=True, slots=True)
class Layout:
    """What a text module is made with, beside its tables.

    Attributes:
        columns: Of the vectorizer.
        shortest, longest: n of the n-grams.
        least: Characters of the shortest token.
        drops: Whether tokens are dropped before n-grams are made.
        fan: Symbols that may follow an n-gram of characters.
    """

    analyzer: Analyzer
    columns: int
    shortest: int
    longest: int
    least: int
    drops: bool
    fan: int
    binary: bool
    sublinear: bool
    norm: Literal["l1", "l2", "none"]
