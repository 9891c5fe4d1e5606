"""Whether a narrower file still tells inputs apart.

293.1 and 293.4 are both 293 in int8, and of scores between 0 and 1 that stand beside pixels nothing
is left; what never changes is signal enough for any bar.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from edgeport.runtimes import open as open_artefact
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array

_FEWEST: Final = 4
"""Answers at a place of an output: of fewer, nothing can be said about how it changes."""

_ROUNDING: Final = 2.0**-20
"""Of a value: what changes by less is its rounding in float32."""


@dataclass(frozen=True, slots=True)
class Variation:
    """What is left of that which changes from input to input.

    Attributes:
        lost: Of a whole output nothing; a sentence, by its name.
        parts: Of some parts of an output nothing; a sentence for each.
        kept_db: Signal over noise of the rest, by name of the output.
    """

    lost: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    kept_db: Mapping[str, float] = field(default_factory=dict)


def variation(path: Path, golden: Sequence[Golden], constant: Sequence[str]) -> Variation:
    """Ask an ONNX file all samples but edge cases, and hold each output against its own mean.

    Args:
        path: Of the file.
        golden: With what the module answers.
        constant: Outputs that are meant not to change.

    Raises:
        EdgeportError: The file is not opened, or fails.
    """
    usual = [sample for sample in golden if sample.kind != "edge"]
    names = [name for sample in usual[:1] for name in sample.eager if name not in constant]
    with open_artefact(path, backend="ort-cpu", threads=1) as session:
        answers = [session.run(sample.inputs) for sample in usual]
    lost, parts, kept = dict[str, str](), list[str](), dict[str, float]()
    for name in names:
        pairs = [(each[name], *_truth(s, name)) for s, each in zip(usual, answers, strict=True)]
        if pairs[0][1].dtype.kind != "f":
            lost |= _turned(name, [(answer, eager) for answer, eager, _ in pairs])
            continue
        truths = [truth for _, _, truth in pairs]
        lengths = np.array([truth.shape for truth in truths])  # (samples, axes)
        free = [axis for axis in range(truths[0].ndim) if axis == 0 or np.ptp(lengths[:, axis])]
        error, change = _squares([(answer, truth) for answer, _, truth in pairs], free)
        if not change.any():
            continue
        kept[name] = _decibels(float(change.sum()), float(error.sum()))
        if kept[name] <= 0:
            lost[name] = (
                f"{name} is no nearer to the module's than its mean is: nothing is left of what "
                "changes in it from input to input"
            )
        else:
            parts += _parts(name, error, change, truths, free)
    return Variation(lost, tuple(parts), kept)


def _truth(sample: Golden, name: str) -> tuple[Array, Array]:
    """What eager answers, and the nearest to the truth."""
    eager = sample.eager[name]
    oracle = sample.oracle.get(name, eager)
    return eager, oracle if oracle.shape == eager.shape else eager


def _turned(name: str, pairs: Sequence[tuple[Array, Array]]) -> dict[str, str]:
    """Of integers and bools: whether as many differ as if the most usual one was always given."""
    _, counts = np.unique(np.concatenate([eager.ravel() for _, eager in pairs]), return_counts=True)
    others = int(counts.sum() - counts.max(initial=0))
    differ = sum(int(np.count_nonzero(answer != eager)) for answer, eager in pairs)
    if differ <= 1 or differ < others:  # one always may
        return {}
    return {
        name: f"{differ} elements of {name} differ, and {others} would if the most usual value was "
        "given to all inputs"
    }


def _squares(pairs: Sequence[tuple[Array, Array]], free: Sequence[int]) -> tuple[Array, Array]:
    """Squares of errors, and of what changes, added up over rows and axes of free length."""
    axes = tuple(free)

    def total(part: Callable[[Array, Array], Array]) -> Array:
        found = np.zeros(())
        for answer, truth in pairs:  # one by one: all logits of a language model are gigabytes
            wide = truth.astype(np.float64, copy=False)
            held = np.isfinite(wide) & np.isfinite(answer)
            found = found + np.where(held, part(answer, wide), 0).sum(axes)
        return np.asarray(found)

    with np.errstate(over="ignore", invalid="ignore"):
        count = total(lambda _, truth: np.ones_like(truth))
        mean = np.expand_dims(total(lambda _, truth: truth) / np.maximum(count, 1), axes)
        change = total(lambda _, truth: np.square(truth - mean))
        whole = total(lambda _, truth: np.square(truth))
        error = total(lambda answer, truth: np.square(answer - truth))
    counts = (count >= _FEWEST) & (change > np.square(_ROUNDING) * whole)
    return np.where(counts, error, 0), np.where(counts, change, 0)


def _decibels(change: float, error: float) -> float:
    return 10 * math.log10(change / error) if error else math.inf


def _parts(
    name: str, error: Array, change: Array, truths: Sequence[Array], free: Sequence[int]
) -> Iterator[str]:
    """A sentence on the first axis along which parts are lost; not on shares of one whole."""
    fixed = [axis for axis in range(truths[0].ndim) if axis not in free]
    for place, axis in enumerate(fixed):
        rest = tuple(other for other in range(len(fixed)) if other != place)
        gone = np.flatnonzero((change.sum(rest) > 0) & (error.sum(rest) >= change.sum(rest)))
        if gone.size and not all(np.allclose(truth.sum(axis), 1) for truth in truths):
            yield (
                f"nothing is left of what changes from input to input in {gone.size} of the "
                f"{truths[0].shape[axis]} parts of {name} along axis {axis} (the first at "
                f"{gone[0]})"
            )
            return
