"""Where a verdict turns. Apart from ``parity``, because opening a bundle needs no more."""

from dataclasses import dataclass
from typing import Final

from .errors import UsageError

EDGE_LENIENCY: Final = 4.0
"""How many times ``max_ratio`` an edge case may reach. There, outputs saturate: eager is exact by
luck, and the fast tanh and exp of an engine show. Right engines were seen at 13.7, faults at 1e3
and more."""

LARGEST_MAX_RATIO: Final = 1e9
"""Above it a bar is none: outputs of float32 have 2^24 ulp."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a verdict turns.

    Attributes:
        max_ratio: Largest error in units of the floor. Correct float32 backends stay below 2
            on rms; 8 leaves room for outputs of a few elements, whose floor is itself noisy.
        constant_outputs: Outputs that are known not to depend on the inputs.
    """

    max_ratio: float = 8.0
    constant_outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.max_ratio <= LARGEST_MAX_RATIO:  # NaN fails this too
            raise UsageError(
                f"the largest ratio is {self.max_ratio}, expected more than 0 and at most "
                f"{LARGEST_MAX_RATIO:g}",
                remedy="leave it at 8 unless you know why an engine may be worse",
            )
