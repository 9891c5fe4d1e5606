"""Compare one output of a backend with the reference; what is found is judged elsewhere."""

import math
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array

from .distances import binade, binades, cosine, middle, rms, ulp_distance
from .figures import Figures, Histogram, NonFinite, NonFiniteKind, Place, Rule

FLOOR_ULPS: Final = 2
"""The floor is never below this many ulp of the output's scale: eager can be right by luck."""

FALLBACK_ULPS: Final = 8
"""The floor in ulp of the output's scale where no oracle is nearer to the truth than eager."""

_MOST_PLACES: Final = 8

_NON_FINITE: Final[dict[NonFiniteKind, Callable[[Array], Array]]] = {
    "NaN": np.isnan,
    "+Inf": np.isposinf,
    "-Inf": np.isneginf,
}


def measure(actual: Array, eager: Array, oracle: Array | None) -> Figures:
    """Compare one output of a backend with the reference.

    Args:
        actual: The backend's output.
        eager: The module's output: same dtype and shape, or the structure differs.
        oracle: The module's output in float64, or ``None`` where it could not be computed.
    """
    floating = np.issubdtype(eager.dtype, np.floating)
    finite = np.isfinite(eager) if floating else None
    truth = None if finite is None else _truth(eager, oracle, finite)
    rule: Rule = "exact" if finite is None else "float32" if truth is None else "oracle"
    dtype = str(eager.dtype)
    mismatch = _structure(actual, eager)
    if mismatch:
        return Figures(rule, dtype, mismatch, error_rms=math.inf, error_max=math.inf)
    if finite is None:
        return _exact(actual, eager, dtype)
    odd = () if finite.all() and np.isfinite(actual).all() else _non_finite(actual, eager)
    for found in odd:
        if found.differ:
            wrong = _in_words(found, actual)
            return Figures(
                rule, dtype, wrong, error_rms=math.inf, error_max=math.inf, non_finite=odd
            )
    if not finite.any():
        return Figures(rule, dtype, non_finite=odd)
    return _floating(actual, eager, truth, finite, odd)


def _structure(actual: Array, eager: Array) -> str | None:
    if actual.dtype != eager.dtype:
        return f"dtype is {actual.dtype}, the module gives {eager.dtype}"
    if actual.shape != eager.shape:
        return f"shape is {list(actual.shape)}, the module gives {list(eager.shape)}"
    return None


def _non_finite(actual: Array, eager: Array) -> tuple[NonFinite, ...]:
    found = []
    for kind, where in _NON_FINITE.items():
        here, there = where(actual), where(eager)
        wrong = np.flatnonzero(here != there)
        counts = (int(np.count_nonzero(there)), int(np.count_nonzero(here)))
        if any(counts):
            first = tuple(_index(place, eager.shape) for place in wrong[:_MOST_PLACES])
            found.append(NonFinite(kind, *counts, wrong.size, first))
    return tuple(found)


def _in_words(found: NonFinite, actual: Array) -> str:
    first = found.first[0]
    here = _NON_FINITE[found.kind](actual[first])
    has, lacks = ("backend", "module") if here else ("module", "backend")
    return (
        f"the {has} has {found.kind} at {list(first)}, the {lacks} has not; "
        f"{found.differ} such places"
    )


def _truth(eager: Array, oracle: Array | None, finite: Array) -> Array | None:
    """The oracle, if it has a finite answer wherever eager has one; eager may overflow alone."""
    if oracle is None or oracle.dtype != np.float64 or oracle.shape != eager.shape:
        return None
    return oracle if (np.isfinite(oracle) | ~finite).all() else None


def _exact(actual: Array, eager: Array, dtype: str) -> Figures:
    wrong = np.flatnonzero(np.not_equal(actual, eager))
    places = tuple(
        Place(_index(at, eager.shape), int(actual.flat[at]), int(eager.flat[at]), None)
        for at in wrong[:_MOST_PLACES]
    )
    return Figures(
        "exact",
        dtype,
        elements=eager.size,
        error_rms=float(wrong.size),
        error_max=float(wrong.size),
        worst_index=places[0].index if places else (),
        places=places,
    )


def _floating(
    actual: Array,
    eager: Array,
    oracle: Array | None,
    finite: Array,
    odd: tuple[NonFinite, ...],
) -> Figures:
    """Where eager is finite, everything else is too."""
    flat = np.flatnonzero(finite)
    pick = np.ravel if flat.size == eager.size else partial(_pick, finite)
    mine, theirs = pick(actual), pick(eager)  # (...) -> (N,), N > 0
    wide = theirs.astype(np.float64)
    truth = wide if oracle is None else pick(oracle)
    answer = mine.astype(np.float64)
    with np.errstate(over="ignore"):  # 1e308 - -1e308
        error, noise = np.abs(answer - truth), np.abs(wide - truth)
    scale = np.abs(truth)
    info = np.finfo(eager.dtype)
    better = oracle is not None and eager.dtype != np.float64  # it is no oracle for its own dtype
    ulps = (FLOOR_ULPS if better else FALLBACK_ULPS) * float(info.eps)
    least = FLOOR_ULPS * float(info.smallest_subnormal)
    signal_rms, floor_max = rms(scale), max(float(noise.max()), ulps * float(scale.max()), least)
    steps = ulp_distance(mine, theirs)
    decisions, flips, outside, margin = _decide(
        actual, eager, eager.astype(np.float64) if oracle is None else oracle, 2 * floor_max
    )
    largest = _largest(error)
    return Figures(
        "float32" if oracle is None else "oracle",
        str(eager.dtype),
        elements=error.size,
        error_rms=rms(error),
        error_max=float(error.max()),
        floor_rms=max(rms(noise), ulps * signal_rms, least),
        floor_max=floor_max,
        signal_rms=signal_rms,
        cosine=cosine(answer, truth),
        ulp_max=int(steps.max()),
        ulp_median=int(middle(steps)),
        worst_index=_index(flat[largest[0]], eager.shape),
        decisions=decisions,
        flips=flips,
        flips_outside=outside,
        flip_margin=margin,
        non_finite=odd,
        histogram=_histogram(error, noise),
        places=tuple(
            Place(
                _index(flat[at], eager.shape),
                float(answer[at]),
                float(wide[at]),
                None if oracle is None else float(truth[at]),
            )
            for at in largest
        ),
    )


def _pick(where: Array, values: Array) -> Array:
    picked: Array = values[where]
    return picked


def _largest(error: Array) -> list[int]:
    """Where the largest errors are: the largest first, the first of equal ones first."""
    found = []
    for _ in range(min(_MOST_PLACES, error.size)):  # faster than a partition
        at = int(error.argmax())
        found.append((at, error[at]))
        error[at] = -1
    for at, value in found:
        error[at] = value
    return [at for at, _ in found]


def _histogram(error: Array, noise: Array) -> Histogram:
    peak = max(float(error.max()), float(noise.max()))
    top = binade(peak)
    return Histogram(top, binades(error, top), binades(noise, top))


def _decide(
    actual: Array, eager: Array, truth: Array, noise_margin: float
) -> tuple[int, int, int, float]:
    """Decisions, flips, those outside the noise margin, and the largest margin crossed."""
    axis = 1 if eager.ndim > 3 else -1  # classes of an image are (N, C, H, W), others (..., C)
    if eager.ndim < 1 or eager.shape[axis] < 2:
        return 0, 0, 0, 0.0
    chosen, expected = actual.argmax(axis).ravel(), eager.argmax(axis).ravel()  # (decisions,)
    flipped = np.flatnonzero(chosen != expected)
    if not flipped.size:
        return expected.size, 0, 0, 0.0
    rows = np.moveaxis(truth, axis, -1).reshape(-1, truth.shape[axis])  # (decisions, C)
    margins = np.abs(rows[flipped, expected[flipped]] - rows[flipped, chosen[flipped]])
    outside = int(np.count_nonzero(margins > noise_margin))
    return expected.size, flipped.size, outside, float(margins.max())


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))
