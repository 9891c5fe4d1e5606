"""Does memory grow without end, or did it only get warm?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

WARM_SHARE: Final = 0.2
"""Of the looks, the first, which are not judged: arenas fill up, kernels are compiled."""

MOST_GROWTH_BYTES: Final = 16 << 20
STEADY_SHARE: Final = 0.25
"""Growth is steady, and no step, if either half of the time has at least this share of it."""

FEWEST_LOOKS: Final = 15
_MOST_LOOKS: Final = 600
"""Slopes of all pairs are some 180,000 then; more looks are thinned out."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How memory went.

    Attributes:
        first_bytes: Median of the first third after the warm-up.
        last_bytes: Of the last third.
        slope_bytes_per_hour: The median of the slopes between all pairs of looks (Theil 1950, Sen
            1968): a few wild ones don't move it. ``None`` with too few looks.
        grows: Whether it rose by more than 16 MiB, and went on rising.
    """

    first_bytes: int
    last_bytes: int
    slope_bytes_per_hour: float | None
    grows: bool


def growth(at_s: Sequence[float], sizes_bytes: Sequence[int]) -> Growth:
    """Judge a series of looks.

    Args:
        at_s: When, ascending; at least one.
        sizes_bytes: How much memory was held then.
    """
    warm = int(len(at_s) * WARM_SHARE)
    step = 1 + len(at_s) // _MOST_LOOKS
    times = np.asarray(at_s[warm::step], np.float64)
    sizes = np.asarray(sizes_bytes[warm::step], np.float64)
    first, middle, last = (float(np.median(part)) for part in _thirds(sizes))
    if len(sizes) < FEWEST_LOOKS:
        return Growth(round(first), round(last), None, False)
    a, b = np.triu_indices(len(times), 1)
    apart = times[b] - times[a]
    slopes = (sizes[b] - sizes[a])[apart > 0] / apart[apart > 0]
    rise = last - first
    steady = min(middle - first, last - middle) > STEADY_SHARE * rise
    return Growth(
        round(first),
        round(last),
        float(np.median(slopes)) * 3600,
        bool(rise > MOST_GROWTH_BYTES and steady),
    )


def _thirds(sizes: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    third = max(1, len(sizes) // 3)
    middle = sizes[third:-third] if len(sizes) > 2 * third else sizes
    return [sizes[:third], middle, sizes[-third:]]
