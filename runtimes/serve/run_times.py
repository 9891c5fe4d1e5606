"""How long a run of a model takes: a fixed part, and a part for each byte that goes in.

A line is fitted to the runs by least squares; each counts less the longer ago it was. Bytes and not
rows, because a row may be a word or a page.
"""

from collections.abc import Sequence
from typing import Final

QUICK_S: Final = 0.001
"""A run that takes longer is not quick: health is to be answered meanwhile."""

LONGEST_BATCH_S: Final = 0.1
"""No rows are put together that take longer: those who wait behind them would pay for it."""

_WEIGHT: Final = 1 / 32
"""Of the newest run. One that was interrupted says little about those to come."""

_PAST_S: Final = 0.5
"""Of a run that weighs half: what was so long ago says little of the machine as it is now."""

_ALIKE: Final = 1e-4
"""Sizes within 1 % of each other cannot tell the two parts apart: what was known of them stays."""


class RunTimes:
    """Learns how long runs take.

    Args:
        first: Bytes and seconds of a small run, and of a larger one if there was any.

    Attributes:
        fixed_s: What a run takes whatever goes in.
        byte_s: What each byte adds.
        known_bytes: Of the largest run that was asked for: what the line says of much larger ones
            is a guess. Where moods of the machine hid the cost of a byte, it was 0.
    """

    __slots__ = (
        *("_both", "_mean_bytes", "_mean_s", "_quick_bytes", "_spread"),
        *("byte_s", "fixed_s", "known_bytes"),
    )

    def __init__(self, first: Sequence[tuple[int, float]]) -> None:
        (small, small_s), (large, large_s) = first[0], first[-1]
        self.known_bytes = large if large_s <= LONGEST_BATCH_S else small
        self._mean_bytes = (small + large) / 2
        self._mean_s = (small_s + large_s) / 2
        self._spread = (large - small) ** 2 / 4  # variance of the sizes
        self._both = (large - small) * (large_s - small_s) / 4  # covariance with the times
        self._quick_bytes = max(
            (4 * size for size, time_s in first if time_s <= QUICK_S), default=0
        )
        self.byte_s = small_s / max(small, 1)  # unless a second size shows a fixed part
        if large > small:
            self.byte_s = (large_s - small_s) / (large - small)
        self._fit()

    def expect(self, size_bytes: int) -> float:
        """How long a run of so many bytes will take, in seconds."""
        return self.fixed_s + size_bytes * self.byte_s

    def is_quick(self, size_bytes: int) -> bool:
        """Whether it is sure to be: what is much larger than any before may take much longer."""
        return size_bytes <= self._quick_bytes and self.expect(size_bytes) <= QUICK_S

    def learn(self, size_bytes: int, time_s: float) -> None:
        """A run of so many bytes took so long."""
        more_bytes, longer_s = size_bytes - self._mean_bytes, time_s - self._mean_s
        weight = max(_WEIGHT, time_s / (time_s + _PAST_S))
        self._mean_bytes += weight * more_bytes
        self._mean_s += weight * longer_s
        # What is a property of the model, and not of the machine's mood, may change slowly.
        more_bytes *= _WEIGHT
        self._spread += more_bytes * more_bytes / _WEIGHT - _WEIGHT * self._spread
        self._both += more_bytes * longer_s - _WEIGHT * self._both
        self._fit()
        if size_bytes > self.known_bytes:
            self.known_bytes = size_bytes
        if time_s <= QUICK_S and 4 * size_bytes > self._quick_bytes:
            self._quick_bytes = 4 * size_bytes

    def _fit(self) -> None:
        mean_bytes, mean_s = self._mean_bytes, self._mean_s
        alike = _ALIKE * mean_bytes * mean_bytes + 1e-9
        byte_s = (self._both + alike * self.byte_s) / (self._spread + alike)
        if byte_s < 0:
            byte_s = 0.0
        elif byte_s * mean_bytes > mean_s:
            byte_s = mean_s / mean_bytes
        self.byte_s = byte_s
        self.fixed_s = mean_s - byte_s * mean_bytes
