"""Where a verdict turns. Apart from the rule, because opening a bundle needs no more."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.formats import records
from edgeport.runtimes.values import dataclass, field, replace

DEFAULT_MAX_RATIO: Final = 8.0
"""Correct float32 backends stay below 2 on rms; 8 leaves room for outputs of a few elements, whose
floor is itself noisy."""

EDGE_LENIENCY: Final = 4.0
"""How many times ``max_ratio`` an edge case may reach. There, outputs saturate: eager is exact by
luck, and the fast tanh and exp of an engine show. Right engines were seen at 13.7, faults at 1e3
and more."""

LARGEST_MAX_RATIO: Final = 1e9
"""Above it a bar is none: outputs of float32 have 2^24 ulp."""

MOST_SIGNAL_DB: Final = 200
"""Above it a bar of signal over noise is none: float32 itself has 140 dB."""

Precision = Literal["float16", "bfloat16", "int8", "tf32"]
"""One that an artefact, or its engine, may compute in where the module computes in more."""

EPSILONS: Final[Mapping[str, float]] = {
    "float64": 2.0**-52,
    "float32": 2.0**-23,
    "float16": 2.0**-10,
    "tf32": 2.0**-10,
    "bfloat16": 2.0**-7,
}
"""The step above 1 of each format of floats; int8 has none, its steps are those of a scale. In TF32
the factors of a product have 10 bits of mantissa, and what is summed has those of float32 (NVIDIA,
"NVIDIA A100 Tensor Core GPU Architecture", 2020)."""


@dataclass(frozen=True, slots=True)
class Reduced:
    """What an artefact must keep that computes in a narrower precision than the module.

    Attributes:
        min_snr_db: Smallest signal-to-noise ratio of an output, on samples that are no edge case.
        max_flips: Largest share of an integer output's elements that may differ; one always may.
    """

    min_snr_db: float
    max_flips: float

    def __post_init__(self) -> None:
        if not (0 <= self.min_snr_db <= MOST_SIGNAL_DB and 0 <= self.max_flips <= 1):
            raise UsageError(
                f"a reduced precision has min_snr_db {self.min_snr_db} and max_flips "
                f"{self.max_flips}, expected 0 to {MOST_SIGNAL_DB} and 0 to 1",
                remedy="leave them out to use the defaults of docs/parity.md",
            )


REDUCED: Final[Mapping[Precision, Reduced]] = {
    "float16": Reduced(min_snr_db=40, max_flips=0.01),
    "bfloat16": Reduced(min_snr_db=25, max_flips=0.05),
    "int8": Reduced(min_snr_db=20, max_flips=0.1),
    "tf32": Reduced(min_snr_db=40, max_flips=0.01),
}
"""The defaults; docs/parity.md has the measurements behind them."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a verdict turns.

    Attributes:
        max_ratio: Largest error in units of the floor.
        constant_outputs: Outputs that are known not to depend on the inputs.
        outputs: A largest ratio of its own, by name of the output.
        reduced: By precision: what an artefact must keep that computes in less than the module.
    """

    max_ratio: float = DEFAULT_MAX_RATIO
    constant_outputs: tuple[str, ...] = ()
    outputs: Mapping[str, float] = field(default_factory=dict)
    reduced: Mapping[Precision, Reduced] = field(default_factory=lambda: dict(REDUCED))

    def __post_init__(self) -> None:
        for name, ratio in (("", self.max_ratio), *self.outputs.items()):
            if not 0 < ratio <= LARGEST_MAX_RATIO:  # NaN fails this too
                raise UsageError(
                    f"the largest ratio{name and f' of {name}'} is {ratio}, expected more than 0 "
                    f"and at most {LARGEST_MAX_RATIO:g}",
                    remedy=f"leave it at {DEFAULT_MAX_RATIO:g} unless you know why an engine may "
                    "be worse",
                )

    def ratio_of(self, output: str, *, edge: bool = False) -> float:
        """The largest ratio of one output, on an edge case or on any other sample."""
        ratio = self.outputs.get(output, self.max_ratio)
        return min(ratio * EDGE_LENIENCY, LARGEST_MAX_RATIO) if edge else ratio

    def bar_of(self, precision: Precision) -> Reduced:
        """What an artefact in a narrower precision must keep."""
        return self.reduced.get(precision, REDUCED[precision])

    def with_ratios(self, ratios: Mapping[str | None, float]) -> "Thresholds":
        """Other largest ratios, by name of the output; ``None``: of all that have no own one.

        Examples:
            >>> Thresholds().with_ratios({None: 4, "logits": 2}).ratio_of("logits")
            2

        Raises:
            UsageError: A ratio is no bar.
        """
        own = {name: ratio for name, ratio in ratios.items() if name is not None}
        general = ratios.get(None, self.max_ratio)
        return replace(self, max_ratio=general, outputs={**self.outputs, **own})

    def with_signal(self, min_snr_db: float | None) -> "Thresholds":
        """Another smallest signal over noise, of every narrower precision; ``None``: the same.

        Examples:
            >>> Thresholds().with_signal(30).bar_of("int8")
            Reduced(min_snr_db=30, max_flips=0.1)

        Raises:
            UsageError: It is no bar.
        """
        if min_snr_db is None:
            return self
        bars = {name: replace(self.bar_of(name), min_snr_db=min_snr_db) for name in REDUCED}
        return replace(self, reduced=bars)

    def check_outputs(self, names: Sequence[str]) -> None:
        """Refuse a threshold of an output that is not there.

        Raises:
            UsageError: Its name is none of ``names``.
        """
        for name in (*self.constant_outputs, *self.outputs):
            if name not in names:
                raise UsageError(
                    f"no output is named {name!r}", remedy=f"the outputs are {', '.join(names)}"
                )

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        plain: dict[str, Any] = records.to_json(self)
        return plain

    @classmethod
    def from_json(cls, value: object) -> "Thresholds":
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: It is something else.
            UsageError: A number is out of its range.
        """
        return records.from_json(cls, value)


def narrower(precision: str, module: str) -> Precision | None:
    """The precision of an artefact by name, if it is one for which another rule holds.

    Args:
        precision: What the artefact computes in.
        module: What the module does.
    """
    if precision == module:
        return None
    return next((known for known in REDUCED if known == precision), None)


def floor_scale(precision: str, module: str) -> float:
    """How many times larger the rounding error of a precision is than that of the module's.

    The bounds of the rounding error of any computation are linear in the unit roundoff (Higham,
    Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, section 3.1), so a floor that
    was measured in one format of floats gives the floor of the same computation in another.

    Returns:
        Infinity where the precision is no format of floats, so that nothing can be said.

    Examples:
        >>> floor_scale("float16", "float32")
        8192.0
    """
    if precision not in EPSILONS or module not in EPSILONS:
        return math.inf
    return EPSILONS[precision] / EPSILONS[module]
