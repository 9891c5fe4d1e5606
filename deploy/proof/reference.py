"""The reference: what the eager module answers, and what it answers in float64 (the oracle)."""

import contextlib
import io
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
import torch

from edgeport.deploy.kinds import kind_of
from edgeport.deploy.sources.raised import raised
from edgeport.deploy.sources.running import range_remedy, run_module
from edgeport.deploy.sources.samples import Sample, inputs_at, sizes_of
from edgeport.deploy.sources.source import Source
from edgeport.deploy.sources.state import changed, state_of
from edgeport.runtimes import SourceError
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.distances import rms
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verdict import judge, judge_together, pool_floors

from .determinism import check_draws, check_fresh, check_repeatable, check_unchanged
from .fused_attention import check_fused
from .moved_inputs import hangs_on_rounding, is_lucky, moved, named
from .oracle import Oracle
from .outside import read_outside
from .ties import hangs_on_ties, orders

_MOVES: Final = 6
"""Eager runs on moved inputs, to learn how far rounding errors may carry."""

_REDRAWN: Final = 1000
"""The first seed of samples that are drawn anew; there are never so many others."""

_REDRAWS: Final = 3

_FRESH: Final = 4
"""Copies of a module, each asked for one sample, where it seems to keep nothing."""

_LOUD: Final = 1e-3
"""Of an output. float32 is usually at 1e-7 to 1e-5; float16 and bfloat16 inside are above."""


class Reference:
    """The module of a source, and the same in float64.

    Attributes:
        notes: What became of its samples, in sentences for the user.
        suspect: What is the matter with all of them, if something is.
        draws: What the module draws, if it draws random numbers.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.notes: list[str] = []
        self.suspect: str | None = None
        self.draws: str | None = None
        self._oracle: Oracle | None = None

    def answer(self, sample: Sample) -> Golden:
        """Ask both.

        Raises:
            Exception: Whatever the module raises.
        """
        with contextlib.redirect_stdout(io.StringIO()):  # what forward prints was seen once
            arrays = run_module(self.source.flat, sample.inputs)
            wide = self.oracle().answer(sample.inputs, arrays)
            eager = named(self.source.signature, arrays)
            oracle = {n: a for n, a in zip(eager, wide.outputs, strict=True) if a is not None}
            noise = self._noise(sample, oracle) if sample.kind == "edge" else {}
        return Golden(sample.name, sample.kind, sample.inputs, eager, oracle, wide.gap, noise)

    def oracle(self) -> Oracle:
        """The module in float64."""
        self._oracle = self._oracle or Oracle(self.source.flat)
        return self._oracle

    def rest(self) -> None:
        """Give the oracle's memory back, twice the module's, until the next answer."""
        self._oracle = None

    def _noise(self, sample: Sample, oracle: Mapping[str, Array]) -> dict[str, Array]:
        """How far eager gets from the oracle where the inputs move by a rounding error or two.

        On an edge case most of an output is often saturated, and exact. What is left are a few
        values, and eager's own distance on them is luck. How far rounding may get is the condition
        of the problem times the unit roundoff (Higham, *Accuracy and Stability of Numerical
        Algorithms*, 2nd ed., section 1.6), and moved inputs show it.
        """
        if not any(array.dtype.kind == "f" and array.any() for array in sample.inputs.values()):
            return {}  # nothing moves
        generator = np.random.default_rng(0)
        noise: dict[str, Array] = {}
        for _ in range(_MOVES):
            near = moved(sample.inputs, generator)
            try:
                answers = named(self.source.signature, run_module(self.source.flat, near))
            except Exception:  # the user's module may raise anything
                break
            for name, truth in oracle.items():
                if answers[name].dtype.kind == "f" and answers[name].shape == truth.shape:
                    found = _distance(answers[name], truth)
                    noise[name] = np.maximum(found, noise.get(name, 0.0))
        return noise


def make_golden(
    reference: Reference, on_sample: Callable[[float, str], None] = lambda *_: None
) -> tuple[Golden, ...]:
    """Answer every sample of a source, eager and in float64.

    An edge case that the module itself rejects is left out: nothing has to agree with an error.
    So is one whose integers hang on rounding, and any sample whose answer hangs on the order of
    equal values, as long as there are others: torch promises nothing there. A drawn one is drawn
    anew first.

    Args:
        reference: Answers.
        on_sample: Told before each sample which share of them is done, and its name.

    Raises:
        SourceError: The module fails on a sample that is not an edge case, is not deterministic,
            or keeps state.
    """
    source = reference.source
    before = state_of(source.module)
    check_repeatable(source.flat, source.example)
    reference.draws = check_draws(source.flat, source.example)
    reference.notes += read_outside(source.flat, source.example)
    golden, tied, drawing = _answered(reference, on_sample)
    for sample in drawing:
        reference.draws = check_draws(source.flat, sample.inputs) or reference.draws
    reference.notes += [] if reference.draws is None else [reference.draws]
    if tied:
        told = _told_ties(tied, golden)
        reference.notes.append(told)
        if all(sample.kind == "edge" for sample in golden):
            golden = [*tied, *golden]
            reference.suspect = told
    check_unchanged(source.flat, golden[0], before)
    reference.rest()
    if source.fresh is not None:
        keeps = bool(changed(before, state_of(source.module)))  # of which some samples may tell
        asked = golden if keeps else golden[:: len(golden) // _FRESH + 1]
        check_fresh(source.flat, source.fresh, asked, source.shared)
    told_fused = check_fused(source.flat, source.example)
    reference.notes += [] if told_fused is None else [told_fused]
    return tuple(golden)


def _answered(
    reference: Reference, on_sample: Callable[[float, str], None]
) -> tuple[list[Golden], list[Golden], list[Sample]]:
    """The samples that prove something, those that hang on ties, and those that draw numbers."""
    source = reference.source
    ordered = orders(source.flat, source.example)
    golden: list[Golden] = []
    tied: list[Golden] = []
    drawing: list[Sample] = []
    is_steady = True
    for number, given in enumerate(source.samples):
        on_sample(number / len(source.samples), given.name)
        is_vain = any(each.kind == "random" for each in tied)  # it helps no others either
        again = 0 if is_vain else _REDRAWS
        sample, hangs = _untied(reference, given, again) if ordered else (given, False)
        seed = torch.get_rng_state()
        try:
            answered = reference.answer(sample)
        except Exception as e:  # the user's module may raise anything
            if sample.kind == "edge":
                continue
            raise SourceError(
                f"{kind_of(source.module)} fails on the sample {sample.name!r}: {raised(e)}",
                remedy=range_remedy(sizes_of(source.signature, sample.inputs)),
            ) from e
        if reference.draws or not torch.equal(seed, torch.get_rng_state()):
            drawing.append(sample)
        elif sample.kind == "random" and not ordered and is_steady:
            answered, is_steady = _steady(reference, answered)
        if sample.kind != "edge":
            (tied if hangs else golden).append(answered)
        elif not hangs and not hangs_on_rounding(source, answered):
            golden.append(answered)
    return golden, tied, drawing


def _untied(reference: Reference, sample: Sample, again: int) -> tuple[Sample, bool]:
    """A sample of the same sizes without equal values that matter; and whether it has them.

    A drawn one is drawn anew so many times.
    """
    source, oracle = reference.source, reference.oracle()
    if not hangs_on_ties(source.flat, sample.inputs, oracle):
        return sample, False
    if sample.kind == "random":
        sizes = sizes_of(source.signature, sample.inputs)
        for seed in range(_REDRAWN, _REDRAWN + again):
            inputs = inputs_at(source.signature, sizes, source.values, seed)
            if not hangs_on_ties(source.flat, inputs, oracle):
                return replace(sample, inputs=inputs), False
    return sample, True


def _steady(reference: Reference, answered: Golden) -> tuple[Golden, bool]:
    """A drawn sample on which eager is as far off as rounding may get; and whether one was found.

    Where it is nearer by luck, as in the logarithm of a single value that is almost zero, no engine
    is as near. Others of the same sizes are drawn, and if they are alike, the first is kept.
    """
    source, found = reference.source, answered
    sizes = sizes_of(source.signature, found.inputs)
    for seed in range(_REDRAWN, _REDRAWN + _REDRAWS):
        if not is_lucky(source, found):
            return found, True
        inputs = inputs_at(source.signature, sizes, source.values, seed)
        try:
            found = reference.answer(Sample(answered.name, answered.kind, inputs))
        except Exception:  # the user's module may raise anything
            break
    return answered, False


def _told_ties(tied: Sequence[Golden], others: Sequence[Golden]) -> str:
    proved = any(sample.kind != "edge" for sample in others)
    names = ", ".join(repr(sample.name) for sample in tied[:4]) + ", ..." * (len(tied) > 4)
    what = f"{len(tied)} answer{'s' * (len(tied) > 1)} ({names})"
    done = "they were left out" if proved else "a right artefact may fail"
    return (
        f"which of equal or nearly equal values topk or sort puts first decides {what}, and "
        f"engines need not agree on it: {done}; sort with stable=True, or give samples without"
    )


def limits_of_proof(golden: Sequence[Golden], thresholds: Thresholds) -> tuple[str, ...]:
    """Sentences for the user about what the samples can't prove as sharply as usual."""
    told = [
        f"there is no float64 answer to judge by: {sample.gap}" for sample in golden if sample.gap
    ]
    told += [] if (nonsense := drawn_nonsense(golden)) is None else [nonsense]
    usual = [sample for sample in golden if sample.kind != "edge"]
    for name in golden[0].eager:
        noise = max((_noise(sample, name) for sample in usual), default=0.0)
        if noise > _LOUD:
            told.append(
                f"the module's own rounding error is up to {noise:.2g} of {name}, so that faults "
                "of that size pass"
            )
        told += _overshadowed(usual, name, thresholds)
    return tuple(dict.fromkeys(told))


def _overshadowed(usual: Sequence[Golden], name: str, thresholds: Thresholds) -> Iterator[str]:
    """A sentence on parts of an output that the bar, which the rest of it sets, does not see.

    Probabilities of 1e-8 beside boxes of 100 pixels: all zeros would pass. Shares of one whole are
    left out: a small one is nothing beside the rest.
    """
    arrays = [sample.oracle.get(name, np.zeros(0)) for sample in usual]
    if not all(a.ndim > 1 and a.size and a.dtype.kind == "f" for a in arrays):
        return
    if not all(np.isfinite(each).all() for s in usual for each in (s.eager[name], s.oracle[name])):
        return
    errors = [np.abs(sample.eager[name] - sample.oracle[name]).max() for sample in usual]
    bars = thresholds.ratio_of(name) * np.array(errors)[:, None]
    for axis in range(1, arrays[0].ndim):
        lengths = {array.shape[axis] for array in arrays}
        if len(lengths) > 1 or all(np.allclose(array.sum(axis), 1) for array in arrays):
            continue
        rest = tuple(other for other in range(arrays[0].ndim) if other != axis)
        peaks = np.array([np.abs(array).max(rest) for array in arrays])
        small = np.flatnonzero((peaks < 2 * bars).all(0) & peaks.any(0))
        small = small[np.argsort(peaks.max(0)[small])]
        passes = partial(_passes_without, usual, name, thresholds, axis)
        # As many of the smallest as pass together: fewer of them pass too.
        count = bisect_left(range(len(small)), True, key=lambda n: not passes(small[: n + 1]))
        if 0 < count < peaks.shape[1]:
            yield (
                f"zeros would pass in {count} of the {peaks.shape[1]} parts of {name} along "
                f"axis {axis} (the first at {small[:count].min()}), so small are they beside the "
                "others: return them as an output of their own, or give samples in which they "
                "are larger"
            )
            return


def _passes_without(
    samples: Sequence[Golden], name: str, thresholds: Thresholds, axis: int, parts: Array
) -> bool:
    """Whether eager itself would pass with zeros in some parts of an output."""
    figures = []
    for sample in samples:
        answer = np.moveaxis(sample.eager[name].copy(), axis, 0)
        answer[parts] = 0
        figures.append(sample.measure(name, np.moveaxis(answer, 0, axis)))
    verdicts = [
        judge(name, sample.name, each, thresholds, kind=sample.kind)
        for sample, each in zip(samples, pool_floors(figures), strict=True)
    ]
    return all(verdict.status == "pass" for verdict in judge_together(verdicts, thresholds))


def drawn_nonsense(golden: Sequence[Golden]) -> str | None:
    """A sentence for the user if the module answers NaN or Inf to inputs that were drawn.

    What is drawn need not make sense to a module: a row whose mask hides everything, the logarithm
    of a negative number. Engines differ there, and a proof has no figure for it.
    """
    drawn = [sample for sample in golden if sample.kind == "random"]
    hit = [sample.name for sample in drawn if not all(map(_is_finite, sample.eager.values()))]
    if not hit:
        return None
    return (
        f"the module itself answers NaN or Inf to {len(hit)} of {len(drawn)} drawn samples "
        f"({hit[0]!r}): if it answers real ones otherwise, give it some with --samples"
    )


def near_an_edge(source: Source, golden: Sequence[Golden]) -> str | None:
    """A sentence for the user if one rounding error changes an integer or a bool of a sample."""
    usual = [sample for sample in golden if sample.kind != "edge"]
    near = [sample.name for sample in usual if hangs_on_rounding(source, sample)]
    if not near:
        return None
    return (
        f"one rounding error in the inputs changes integers or bools of {len(near)} of "
        f"{len(usual)} samples ({near[0]!r}), and engines round otherwise: return what they are "
        "made of, or give --samples that are further from where they change"
    )


def _is_finite(array: Array) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _noise(sample: Golden, name: str) -> float:
    """The rms of eager's error in units of the output's own rms."""
    eager, oracle = sample.eager[name], sample.oracle.get(name)
    if oracle is None or not np.isfinite(oracle).all() or not np.isfinite(eager).all():
        return 0.0
    scale = float(np.abs(oracle).max(initial=0.0))
    if not scale:
        return 0.0
    error = (eager.astype(np.float64) - oracle) / scale
    return float(np.sqrt(np.square(error).mean() / np.square(oracle / scale).mean()))


def _distance(answer: Array, truth: Array) -> Array:
    """The rms and the largest of the errors that are finite, float64 [2]."""
    with np.errstate(all="ignore"):  # an infinity is not further off
        errors = np.abs(answer - truth).ravel()
    errors = errors[np.isfinite(errors)]
    return np.array([rms(errors), errors.max()]) if errors.size else np.zeros(2)
