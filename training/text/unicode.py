r"""What lower-casing, accent stripping and ``\w`` do to every code point, as tables.

They come from the Python that fits the vectorizer, so that they are its own version of Unicode
(``unicodedata.unidata_version``), and exact for every code point.
"""

import functools
import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from .lookup import Array

Accents = Literal["ascii", "unicode"]

CODE_POINTS: Final = 0x110000
SIGMA, FINAL_SIGMA = 0x3A3, 0x3C2

_BREAK: Final = "\n"  # a starter without case: nothing combines, or looks, across it


@dataclass(frozen=True, slots=True)
class Changes:
    """What preprocessing makes of each code point by itself.

    Attributes:
        texts: By code point, where it is not what ``only_ascii`` says.
        only_ascii: Whether nothing is left of other code points; else they stay what they are.
    """

    texts: dict[int, str]
    only_ascii: bool

    def __getitem__(self, point: int) -> str:
        found = self.texts.get(point)
        return self._usual(point) if found is None else found

    def _usual(self, point: int) -> str:
        return "" if self.only_ascii and point > 0x7F else chr(point)


@functools.lru_cache
def changes(lowercase: bool, accents: Accents | None) -> Changes:
    """What scikit-learn's preprocessing does: lower first, then strip accents.

    All of it goes code point by code point, but for the final sigma: NFKD reorders only combining
    marks, which are dropped.
    """
    found: dict[int, str] = {}
    for first in range(0, CODE_POINTS, 0x1000):
        points = [point for point in range(first, first + 0x1000) if chr(point) != _BREAK]
        before = text = _BREAK.join(map(chr, points))
        text = text.lower() if lowercase else text
        text = unicodedata.normalize("NFKD", text) if accents else text
        if text == before and not (accents == "unicode" and any(map(unicodedata.combining, text))):
            continue  # most of Unicode
        for point, part in zip(points, text.split(_BREAK), strict=True):
            if part != chr(point) or (accents and point > 0x7F):
                found[point] = _without_accents(part, accents)
    made = Changes({}, accents == "ascii")
    made.texts.update((point, text) for point, text in found.items() if text != made[point])
    return made


def _without_accents(text: str, accents: Accents | None) -> str:
    if accents == "ascii":
        return "".join(c for c in text if c < "\x80")
    if accents == "unicode":
        return "".join(c for c in text if not unicodedata.combining(c))
    return text


@functools.lru_cache
def matching(letter: str) -> Array:
    """Which code points a regular expression for one character matches: (0x110000,) bool."""
    everything = "".join(map(chr, range(CODE_POINTS)))
    found = np.zeros(CODE_POINTS, bool)
    for match in re.finditer(f"(?:{letter})+", everything):  # runs: few
        found[match.start() : match.end()] = True
    return found


@functools.lru_cache
def cases() -> Array:
    """How each code point counts when Python looks for a final sigma: (0x110000,) int8.

    1 for a letter with case; 2 for one that is looked past (Unicode's Case_Ignorable, section
    3.13, table 3-17); 0 for anything else.
    """
    found = np.zeros(CODE_POINTS, np.int8)
    for first in range(0, CODE_POINTS, 0x1000):
        points = [point for point in range(first, first + 0x1000) if chr(point) != _BREAK]
        alone = _BREAK.join(f"{chr(point)}\u03a3" for point in points).lower()
        after = _BREAK.join(f"a{chr(point)}\u03a3" for point in points).lower()
        cased, passed = (
            [part[-1] == chr(FINAL_SIGMA) for part in text.split(_BREAK)] for text in (alone, after)
        )
        found[points] = np.where(cased, 1, np.where(passed, 2, 0))
    return found
