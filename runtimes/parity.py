"""The parity rule: is a backend as near to the truth as eager float32 is?

Three answers to one question are compared: ``eager`` (the module in its own precision),
``oracle`` (the same module in float64: the nearest thing to the truth) and ``actual`` (a
backend). Eager's own distance from the oracle is the noise floor, the error that every PyTorch
user already accepts; the backend's distance is counted in units of it:

    ratio = rms(actual - oracle) / rms(eager - oracle)        and the same pair for the maximum

A correct float32 backend lands between 0.4 and 2 whatever the scale of the outputs, which a
fixed tolerance cannot promise. Measuring (``measure``) and judging (``judge``) are apart, so
that stored figures can be judged again under other thresholds. Between them, ``pool_floors``
lends outputs of a few elements the floor of the other samples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from .inputs import Array
from .thresholds import Thresholds

Status = Literal["pass", "fail"]
Rule = Literal["oracle", "float32", "exact"]

FLOOR_ULPS: Final = 2
"""The floor is never below this many ulp of the output's scale: eager can be right by luck."""

FALLBACK_ULPS: Final = 8
"""The floor in ulp of the output's scale where no oracle is nearer to the truth than eager."""

FEW_ELEMENTS: Final = 64
"""An rms over fewer elements than this is itself too uncertain to divide by."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on one output of one sample.

    Attributes:
        rule: ``oracle``; ``float32`` where no oracle could be had, or it is not finite where
            eager is (errors are then distances from eager, the floor is ``FALLBACK_ULPS``);
            ``exact`` for integers and bools.
        mismatch: A difference of structure (dtype, shape, place of a NaN or Inf), or ``None``.
        elements: How many elements were compared: the finite ones.
        error_rms, error_max: Distance of the backend; ``exact``: number of differing elements.
        floor_rms, floor_max: Distance of eager, never below ``FLOOR_ULPS``.
        worst_index: Where ``error_max`` is.
        decisions: Rows along the last axis, where there is a choice to make.
        flips: Rows whose argmax differs from eager's.
        flip_margin: Largest margin that a flip crossed. Two logits that are each within the bar
            on the maximum cannot cross more than twice that, so flips need no bar of their own.
    """

    rule: Rule
    mismatch: str | None = None
    elements: int = 0
    error_rms: float = 0.0
    error_max: float = 0.0
    floor_rms: float = 0.0
    floor_max: float = 0.0
    worst_index: tuple[int, ...] = ()
    decisions: int = 0
    flips: int = 0
    flip_margin: float = 0.0

    @property
    def ratio(self) -> float:
        """The larger of the two errors, in units of its floor.

        Examples:
            >>> Figures("oracle", error_rms=3.0, floor_rms=2.0, error_max=8.0, floor_max=4.0).ratio
            2.0
        """
        return max(_ratio(self.error_rms, self.floor_rms), _ratio(self.error_max, self.floor_max))

    def to_json(self) -> dict[str, Any]:
        """Plain values; an infinite figure becomes ``None``, which JSON can hold."""
        plain = {**asdict(self), "worst_index": list(self.worst_index), "ratio": self.ratio}
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in plain.items()
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement on one output of one sample, with every figure behind it."""

    output: str
    sample: str
    status: Status
    reason: str
    figures: Figures

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return {
            "output": self.output,
            "sample": self.sample,
            "status": self.status,
            "reason": self.reason,
            "figures": self.figures.to_json(),
        }


def measure(actual: Array, eager: Array, oracle: Array | None) -> Figures:
    """Compare one output of a backend with the reference.

    Args:
        actual: The backend's output.
        eager: The module's output: same dtype and shape, or the structure differs.
        oracle: The module's output in float64, or ``None`` where it could not be computed.
    """
    floating = np.issubdtype(eager.dtype, np.floating)
    truth = _truth(eager, oracle) if floating else None
    rule: Rule = "exact" if not floating else "float32" if truth is None else "oracle"
    mismatch = _structure(actual, eager) or (_non_finite(actual, eager) if floating else None)
    if mismatch:
        return Figures(rule, mismatch, error_rms=math.inf, error_max=math.inf)
    if not floating:
        return _exact(actual, eager)
    return _floating(rule, actual, eager, eager.astype(np.float64) if truth is None else truth)


def pool_floors(figures: Sequence[Figures]) -> list[Figures]:
    """Raise the floors of one output's samples, where they were measured on few elements.

    Eager can be right by luck, and the rms of one or two elements is often far below what eager
    usually does: without this, a correct backend fails one in a hundred scalars. Such a floor
    is raised to the median of the floors of the samples given: a mean would follow one sample of
    a much larger scale, and hide faults in the others.
    """
    measured = [f for f in figures if f.elements and not f.mismatch]
    if not measured:
        return list(figures)
    rms = float(np.median([f.floor_rms for f in measured]))
    peak = float(np.median([f.floor_max for f in measured]))
    return [
        replace(f, floor_rms=max(f.floor_rms, rms), floor_max=max(f.floor_max, peak))
        if 0 < f.elements < FEW_ELEMENTS
        else f
        for f in figures
    ]


def judge(output: str, sample: str, figures: Figures, thresholds: Thresholds) -> Verdict:
    """Turn figures into a verdict."""
    problem = _problem(figures, thresholds)
    if problem is not None:
        return Verdict(output, sample, "fail", problem, figures)
    reason = "equal" if figures.rule == "exact" else f"error is {figures.ratio:.3g} times the floor"
    return Verdict(output, sample, "pass", reason, figures)


def _problem(figures: Figures, thresholds: Thresholds) -> str | None:
    if figures.mismatch:
        return figures.mismatch
    if figures.rule == "exact":
        return f"{figures.error_max:.0f} elements differ" if figures.error_max else None
    if figures.ratio > thresholds.max_ratio:
        return (
            f"error is {figures.ratio:.3g} times the floor, {thresholds.max_ratio:g} allowed; "
            f"largest at {list(figures.worst_index)}"
        )
    return None


def uninformative(references: Sequence[Array]) -> bool:
    """Whether an output cannot tell a right backend from a wrong one: it never changes.

    It holds one value everywhere, or the same rows along its first axis, or it is the same on
    every sample; or it holds no number at all but NaN and Inf.

    Args:
        references: Eager's output on each sample.
    """
    arrays = [np.atleast_1d(array) for array in references if array.size]
    if not arrays or (arrays[0].dtype.kind == "f" and not any(map(_any_finite, arrays))):
        return True
    first = arrays[0]
    one_value = all(_same(array, first.flat[0]) for array in arrays)
    one_row = all(a.shape[1:] == first.shape[1:] and _same(a, first[:1]) for a in arrays)
    one_answer = all(a.shape == first.shape and _same(a, first) for a in arrays)
    return one_value or one_row or (one_answer and len(arrays) > 1)


def _same(a: Array, b: Array) -> bool:
    """Whether two arrays are equal once broadcast, NaN included."""
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _any_finite(array: Array) -> bool:
    return bool(np.isfinite(array).any())


def _structure(actual: Array, eager: Array) -> str | None:
    if actual.dtype != eager.dtype:
        return f"dtype is {actual.dtype}, the module gives {eager.dtype}"
    if actual.shape != eager.shape:
        return f"shape is {list(actual.shape)}, the module gives {list(eager.shape)}"
    return None


def _non_finite(actual: Array, eager: Array) -> str | None:
    for what, where in (("NaN", np.isnan), ("+Inf", np.isposinf), ("-Inf", np.isneginf)):
        wrong = where(actual) != where(eager)
        if wrong.any():
            first = _index(int(np.argmax(wrong)), eager.shape)
            has, lacks = ("backend", "module") if where(actual)[first] else ("module", "backend")
            return (
                f"the {has} has {what} at {list(first)}, the {lacks} has not; "
                f"{np.count_nonzero(wrong)} such places"
            )
    return None


def _truth(eager: Array, oracle: Array | None) -> Array | None:
    """The oracle, if it has a finite answer wherever eager has one; eager may overflow alone."""
    if oracle is None or oracle.dtype != np.float64 or oracle.shape != eager.shape:
        return None
    return oracle if np.isfinite(oracle)[np.isfinite(eager)].all() else None


def _exact(actual: Array, eager: Array) -> Figures:
    wrong = np.not_equal(actual, eager)
    count = float(np.count_nonzero(wrong))
    worst = _index(int(np.argmax(wrong)), eager.shape) if count else ()
    return Figures(
        "exact", elements=eager.size, error_rms=count, error_max=count, worst_index=worst
    )


def _floating(rule: Rule, actual: Array, eager: Array, truth: Array) -> Figures:
    finite = np.isfinite(eager)
    count = int(finite.sum())
    if not count:
        return Figures(rule)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf, which is masked; 1e308 + 1e308
        error = np.where(finite, np.abs(actual.astype(np.float64) - truth), 0.0)
        noise = np.where(finite, np.abs(eager.astype(np.float64) - truth), 0.0)
        scale = np.where(finite, np.abs(truth), 0.0)
    info = np.finfo(eager.dtype)
    better = rule == "oracle" and eager.dtype != np.float64  # it is no oracle for its own dtype
    ulps = (FLOOR_ULPS if better else FALLBACK_ULPS) * float(info.eps)
    least = FLOOR_ULPS * float(info.smallest_subnormal)
    decisions, flips, margin = _decide(actual, eager, truth)
    return Figures(
        rule,
        elements=count,
        error_rms=_rms(error, count),
        error_max=float(error.max()),
        floor_rms=max(_rms(noise, count), ulps * _rms(scale, count), least),
        floor_max=max(float(noise.max()), ulps * float(scale.max()), least),
        worst_index=_index(int(np.argmax(error)), error.shape),
        decisions=decisions,
        flips=flips,
        flip_margin=margin,
    )


def _decide(actual: Array, eager: Array, truth: Array) -> tuple[int, int, float]:
    if eager.ndim < 1 or eager.shape[-1] < 2:
        return 0, 0, 0.0
    rows = truth.reshape(-1, truth.shape[-1])  # (..., C) -> (N, C)
    chosen, expected = actual.argmax(-1).ravel(), eager.argmax(-1).ravel()  # (..., C) -> (N,)
    flipped = np.flatnonzero(chosen != expected)
    if not flipped.size:
        return expected.size, 0, 0.0
    margins = rows[flipped, expected[flipped]] - rows[flipped, chosen[flipped]]
    return expected.size, flipped.size, float(np.abs(margins).max())


def _rms(values: Array, count: int) -> float:
    """Root of the mean square; scaled first, because 1e-200 and 1e200 have no square."""
    peak = float(values.max())
    if peak == 0 or not math.isfinite(peak):
        return peak
    return peak * math.sqrt(float(np.square(values / peak).sum()) / count)


def _ratio(error: float, floor: float) -> float:
    if error == 0:
        return 0.0
    return error / floor if 0 < floor < math.inf and error < math.inf else math.inf


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def worst(verdicts: Sequence[Verdict]) -> Mapping[str, Verdict]:
    """The worst verdict of each output: a failure before a pass, then the larger ratio."""
    found: dict[str, Verdict] = {}
    for verdict in verdicts:
        held = found.get(verdict.output)
        if held is None or _badness(verdict) > _badness(held):
            found[verdict.output] = verdict
    return found


def _badness(verdict: Verdict) -> tuple[bool, float]:
    return verdict.status == "fail", verdict.figures.ratio
