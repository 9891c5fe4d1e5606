"""Compare one output of a backend with the reference; what is found is judged elsewhere."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array

from .distances import BINADES, binade, binades, cosine_of, divisor, middle, ulp_distance
from .figures import Figures, Histogram, NonFinite, NonFiniteKind, Place, Rule

FLOOR_ULPS: Final = 2
"""The floor is never below this many ulp of the output's scale: eager can be right by luck."""

FALLBACK_ULPS: Final = 8
"""The floor in ulp of the output's scale where no oracle is nearer to the truth than eager."""

_MOST_PLACES: Final = 8

_BLOCK: Final = 2**16
"""Elements that are looked at together. All logits of a language model at once took 77 bytes each
in temporary arrays, and clearing their pages took longer than the arithmetic."""

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
    flat = None if finite.all() else np.flatnonzero(finite)
    pick = np.ravel if flat is None else partial(_pick, finite)
    mine, theirs = pick(actual), pick(eager)  # (...) -> (N,), N > 0
    truth = None if oracle is None else pick(oracle)
    blocks = _blocks(mine, theirs, truth)
    peaks = _peaks(blocks())
    sums = _sums(blocks(), peaks)
    info = np.finfo(eager.dtype)
    better = oracle is not None and eager.dtype != np.float64  # it is no oracle for its own dtype
    ulps = (FLOOR_ULPS if better else FALLBACK_ULPS) * float(info.eps)
    least = FLOOR_ULPS * float(info.smallest_subnormal)
    signal_rms, floor_max = sums.rms_truth, max(peaks.noise, ulps * peaks.truth, least)
    steps = _steps(mine, theirs)
    decisions, flips, outside, margin = _decide(
        actual, eager, eager.astype(np.float64) if oracle is None else oracle, 2 * floor_max
    )
    index = partial(_index_of, flat, eager.shape)
    return Figures(
        "float32" if oracle is None else "oracle",
        str(eager.dtype),
        elements=mine.size,
        error_rms=sums.rms_error,
        error_max=peaks.error,
        floor_rms=max(sums.rms_noise, ulps * signal_rms, least),
        floor_max=floor_max,
        signal_rms=signal_rms,
        cosine=sums.cosine,
        ulp_max=int(steps.max()),
        ulp_median=int(middle(steps)),
        worst_index=index(peaks.largest[0]),
        decisions=decisions,
        flips=flips,
        flips_outside=outside,
        flip_margin=margin,
        non_finite=odd,
        histogram=sums.histogram,
        places=tuple(
            Place(
                index(at),
                float(mine[at]),
                float(theirs[at]),
                None if truth is None else float(truth[at]),
            )
            for at in peaks.largest
        ),
    )


def _pick(where: Array, values: Array) -> Array:
    picked: Array = values[where]
    return picked


@dataclass(frozen=True, slots=True)
class _Block:
    """Some elements in float64, and how far answer and eager are from the truth there.

    Attributes:
        start: Place of the first.
        error, noise: Magnitudes.
    """

    start: int
    answer: Array
    truth: Array
    error: Array
    noise: Array


def _blocks(mine: Array, theirs: Array, truth: Array | None) -> Callable[[], Iterable[_Block]]:
    """What goes through all elements, as often as it is called."""

    def block(start: int) -> _Block:
        part = slice(start, start + _BLOCK)
        wide, answer = theirs[part].astype(np.float64), mine[part].astype(np.float64)
        exact = wide if truth is None else truth[part]
        with np.errstate(over="ignore"):  # 1e308 - -1e308
            return _Block(start, answer, exact, np.abs(answer - exact), np.abs(wide - exact))

    starts = range(0, mine.size, _BLOCK)
    if len(starts) == 1:
        whole = [block(0)]
        return lambda: whole
    return lambda: map(block, starts)


@dataclass(frozen=True, slots=True)
class _Peaks:
    """The largest magnitudes; ``largest`` is where the largest errors are."""

    error: float
    noise: float
    answer: float
    truth: float
    largest: Sequence[int]


def _peaks(blocks: Iterable[_Block]) -> _Peaks:
    most = np.zeros(4)
    largest: list[tuple[float, int]] = []
    for block in blocks:
        parts = block.error, block.noise, np.abs(block.answer), np.abs(block.truth)
        peaks = np.array([part.max() for part in parts])
        if len(largest) < _MOST_PLACES or peaks[0] > largest[-1][0]:
            found = [(float(block.error[at]), block.start + at) for at in _largest(block.error)]
            largest = sorted([*largest, *found], key=lambda pair: -pair[0])[:_MOST_PLACES]
        most = np.maximum(most, peaks)
    error, noise, answer, truth = map(float, most)
    return _Peaks(error, noise, answer, truth, [at for _, at in largest])


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


@dataclass(frozen=True, slots=True)
class _Sums:
    """What is added up over all elements."""

    rms_error: float
    rms_noise: float
    rms_truth: float
    cosine: float | None
    histogram: Histogram


def _sums(blocks: Iterable[_Block], peaks: _Peaks) -> _Sums:
    """Scaled where squares would leave float64."""
    top = binade(max(peaks.error, peaks.noise))
    by = [divisor(n) for n in (peaks.error, peaks.noise, peaks.truth, peaks.answer)]
    squares, product, size = np.zeros(4), 0.0, 0
    errors, noises = np.zeros(BINADES, np.int64), np.zeros(BINADES, np.int64)
    for block in blocks:
        parts = block.error, block.noise, block.truth, block.answer
        scaled = [part if n == 1 else part / n for part, n in zip(parts, by, strict=True)]
        squares += [np.dot(part, part) for part in scaled]
        product += float(np.dot(scaled[2], scaled[3]))
        errors += binades(block.error, top)
        noises += binades(block.noise, top)
        size += block.error.size
    error, noise, truth, _ = (
        n * math.sqrt(float(s) / size) for n, s in zip(by, squares, strict=True)
    )
    return _Sums(
        error,
        noise,
        truth,
        cosine_of(float(squares[3]), float(squares[2]), product),
        Histogram(top, tuple(errors.tolist()), tuple(noises.tolist())),
    )


def _steps(mine: Array, theirs: Array) -> Array:
    """How many floats lie between, for each element."""
    steps = np.empty(mine.size, f"u{mine.dtype.itemsize}")
    for start in range(0, mine.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        steps[part] = ulp_distance(mine[part], theirs[part])
    return steps


def _decide(
    actual: Array, eager: Array, truth: Array, noise_margin: float
) -> tuple[int, int, int, float]:
    """Decisions, flips, those outside the noise margin, and the largest margin crossed."""
    axis = 1 if eager.ndim > 3 else -1  # classes of an image are (N, C, H, W), others (..., C)
    if eager.ndim < 2 or eager.shape[axis] < 2:
        return 0, 0, 0, 0.0
    chosen, expected = actual.argmax(axis).ravel(), eager.argmax(axis).ravel()  # (decisions,)
    flipped = np.flatnonzero(chosen != expected)
    if not flipped.size:
        return expected.size, 0, 0, 0.0
    rows = np.moveaxis(truth, axis, -1).reshape(-1, truth.shape[axis])  # (decisions, C)
    margins = np.abs(rows[flipped, expected[flipped]] - rows[flipped, chosen[flipped]])
    outside = int(np.count_nonzero(margins > noise_margin))
    return expected.size, flipped.size, outside, float(margins.max())


def _index_of(flat: Array | None, shape: tuple[int, ...], at: int) -> tuple[int, ...]:
    return _index(at if flat is None else flat[at], shape)


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))
