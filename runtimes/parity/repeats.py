"""Does an engine answer the same input with the same bits? On a GPU, many don't.

Sums that threads add up in the order in which they happen to arrive differ in their last bits from
run to run; so may kernels that are chosen by timing. A verdict on one run says little if they
differ by more than the floor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeport.runtimes.formats.records import Count, Size

from .thresholds import EPSILONS, Precision, Thresholds, floor_scale

if TYPE_CHECKING:
    from edgeport.runtimes.bundles.golden import Golden
    from edgeport.runtimes.inputs import Array
    from edgeport.runtimes.session import Session

    from .verdict import Verdict

RUNS: Final = 20


@dataclass(frozen=True, slots=True)
class Repeats:
    """What came of running one sample again and again.

    Attributes:
        sample: Its name.
        runs: How many.
        distinct: How many different answers there were, bit for bit.
        output: The output whose answers are farthest apart, in floors; ``None`` if all are equal.
        largest: How far: the largest difference of an element from the first answer, in units of
            eager's own largest error on this sample, or that of the precision in use. Infinite
            where integers differ, or a NaN or Inf comes and goes.
    """

    sample: str
    runs: Count
    distinct: Count
    output: str | None
    largest: Size

    def problem(self, thresholds: Thresholds) -> str | None:
        """Why it cannot be trusted: two answers within the bar are at most twice the bar apart."""
        if self.output is None or self.largest <= 2 * thresholds.ratio_of(self.output):
            return None
        return (
            f"{self.runs} runs on sample {self.sample!r} gave {self.distinct} different answers: "
            f"output {self.output!r} differs by up to {self.largest:.3g} floors"
        )

    def __str__(self) -> str:
        if self.distinct == 1:
            return f"{self.runs} runs on sample {self.sample!r} gave the same bits"
        return (
            f"{self.runs} runs on sample {self.sample!r} gave {self.distinct} different answers, "
            f"at most {self.largest:.2g} floors apart"
        )


def repeat(
    session: Session,
    samples: Sequence[Golden],
    verdicts: Sequence[Verdict],
    reduced: Precision | None,
    runs: int = RUNS,
) -> Repeats:
    """Run the largest of the usual samples again and again.

    Args:
        session: The backend.
        samples: At least one.
        verdicts: On these, which have the floors.
        reduced: The precision in use, where it is narrower than the module's.
        runs: How often.

    Raises:
        EngineError: The engine failed.
    """
    usual = [sample for sample in samples if sample.kind in ("real", "random")] or samples
    sample = max(usual, key=lambda each: sum(array.size for array in each.inputs.values()))
    floors = {v.output: _floor(v, reduced) for v in verdicts if v.sample == sample.name}
    first = session.run(sample.inputs)
    seen, apart = {_digest(first)}, dict.fromkeys(first, 0.0)
    for _ in range(runs - 1):
        answer = session.run(sample.inputs)
        digest = _digest(answer)
        if digest not in seen:
            seen.add(digest)
            for name, array in answer.items():
                apart[name] = max(apart[name], distance(array, first[name], floors[name]))
    output = max(apart, key=apart.__getitem__)
    largest = apart[output]
    return Repeats(sample.name, runs, len(seen), output if largest else None, largest)


def distance(one: Array, other: Array, floor: float) -> float:
    """The largest difference of two answers, in floors; infinite if it can't be counted so.

    Examples:
        >>> distance(np.array([1.0, 2.0]), np.array([1.0, 2.5]), 0.25)
        2.0
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        return np.inf
    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else np.inf
    finite = np.isfinite(one)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True) or not np.array_equal(
        finite, np.isfinite(other)
    ):
        return np.inf
    wide = one[finite].astype(np.float64) - other[finite].astype(np.float64)
    most = float(np.abs(wide).max(initial=0.0))
    return most / floor if most else 0.0


def _floor(verdict: Verdict, reduced: Precision | None) -> float:
    figures = verdict.figures
    scale = 1.0
    if reduced is not None and reduced in EPSILONS:
        scale = floor_scale(reduced, figures.dtype)
    return figures.floor_max * scale or np.finfo(np.float64).tiny


def _digest(answer: Mapping[str, Array]) -> bytes:
    found = hashlib.sha256()
    for array in answer.values():
        found.update(np.ascontiguousarray(array).tobytes())
    return found.digest()
