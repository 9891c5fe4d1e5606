"""What was measured on one output of one sample, as data: it can be stored, and judged again."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from edgeport.runtimes.formats.records import Count, Size

Rule = Literal["oracle", "float32", "exact"]
NonFiniteKind = Literal["NaN", "+Inf", "-Inf"]


@dataclass(frozen=True, slots=True)
class NonFinite:
    """Where one kind of value that is no number stands.

    Attributes:
        kind: Which.
        eager, actual: How many the module and the backend have.
        differ: At how many places one of them has it and the other has not.
        first: The first of these places.
    """

    kind: NonFiniteKind
    eager: Count
    actual: Count
    differ: Count
    first: tuple[tuple[Count, ...], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """One element: what was computed there. ``oracle`` is ``None`` where there is none."""

    index: tuple[Count, ...]
    actual: float
    eager: float
    oracle: float | None


@dataclass(frozen=True, slots=True)
class Histogram:
    """How large the errors are, counted by powers of two.

    Attributes:
        top: Bin k counts errors from 2^(top - k - 1) up to 2^(top - k); the last one counts all
            that are smaller, zero too.
        actual, eager: Counts of the backend's and of eager's errors.
    """

    top: int
    actual: tuple[Count, ...]
    eager: tuple[Count, ...]

    def __post_init__(self) -> None:
        if len(self.actual) != len(self.eager):
            raise ValueError(f"a histogram has {len(self.actual)} and {len(self.eager)} bins")


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on one output of one sample.

    Attributes:
        rule: ``oracle``; ``float32`` where no oracle could be had, or it is not finite where
            eager is (errors are then distances from eager, the floor is ``FALLBACK_ULPS``);
            ``exact`` for integers and bools.
        dtype: Of eager's output.
        mismatch: A difference of structure (dtype, shape, place of a NaN or Inf), or ``None``.
        elements: How many elements were compared: the finite ones.
        error_rms, error_max: Distance of the backend; ``exact``: number of differing elements.
        floor_rms, floor_max: Distance of eager, never below ``FLOOR_ULPS``.
        signal_rms: Of the truth itself.
        cosine: Of the angle between the backend's output and the truth; ``None`` if one is zero.
        ulp_max, ulp_median: Floats of eager's dtype between the backend's and eager's value: the
            most, and the middle of all elements.
        worst_index: Where ``error_max`` is.
        decisions: Places with a choice to make: along the last of two or three axes, or along the
            second one of four or more, where images and volumes have their classes.
        flips: Decisions whose argmax differs from eager's.
        flips_outside: Flips whose margin is too large for eager's own noise to cross: more than
            twice ``floor_max``, as it was before any pooling.
        flip_margin: Largest margin that a flip crossed. Two logits that are each within the bar
            on the maximum cannot cross more than twice that, so flips need no bar of their own.
        non_finite: NaN, +Inf and -Inf, where there are any.
        histogram: Of the errors; ``None`` for ``exact``.
        places: The elements with the largest errors; kept for the worst sample of an output.
        gap: Why there is no oracle, in a sentence, where that is known.
    """

    DERIVED: ClassVar = ("ratio", "snr_db")

    rule: Rule
    dtype: str = "float32"
    mismatch: str | None = None
    elements: Count = 0
    error_rms: Size = 0.0
    error_max: Size = 0.0
    floor_rms: Size = 0.0
    floor_max: Size = 0.0
    signal_rms: Size = 0.0
    cosine: float | None = None
    ulp_max: Count = 0
    ulp_median: Count = 0
    worst_index: tuple[Count, ...] = ()
    decisions: Count = 0
    flips: Count = 0
    flips_outside: Count = 0
    flip_margin: Size = 0.0
    non_finite: tuple[NonFinite, ...] = ()
    histogram: Histogram | None = None
    places: tuple[Place, ...] = ()
    gap: str | None = None

    @property
    def ratio(self) -> float:
        """The larger of the two errors, in units of its floor.

        Examples:
            >>> Figures("oracle", error_rms=3.0, floor_rms=2.0, error_max=8.0, floor_max=4.0).ratio
            2.0
        """
        return max(self.rms_ratio, _ratio(self.error_max, self.floor_max))

    @property
    def deciding(self) -> tuple[float, float]:
        """Error and floor of which ``ratio`` is the quotient: rms, or of the largest element."""
        if self.rms_ratio >= _ratio(self.error_max, self.floor_max):
            return self.error_rms, self.floor_rms
        return self.error_max, self.floor_max

    @property
    def rms_ratio(self) -> float:
        """The rms error in units of its floor."""
        return _ratio(self.error_rms, self.floor_rms)

    @property
    def snr_db(self) -> float:
        """Signal-to-noise ratio in dB: 20 log10(signal_rms / error_rms); infinite without error.

        Examples:
            >>> Figures("oracle", signal_rms=1.0, error_rms=0.01).snr_db
            40.0
        """
        if self.error_rms == 0:
            return math.inf
        if self.signal_rms == 0 or not math.isfinite(self.error_rms):
            return -math.inf
        return 20 * (math.log10(self.signal_rms) - math.log10(self.error_rms))


def _ratio(error: float, floor: float) -> float:
    if error == 0:
        return 0.0
    return error / floor if 0 < floor < math.inf and error < math.inf else math.inf
