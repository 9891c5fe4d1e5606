"""On what ranges of values for int8 are measured: on more than the proof has, wherever it can be.

Of a digits CNN whose ranges are those of one image, that image keeps 42 dB and others 19; from a
hundred images on there is no difference. So half of what there is proves without having been
measured on.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgeport.deploy.proof.task import parts_of
from edgeport.deploy.sources.samples import inputs_at, rows_of, sizes_of
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import SourceError
from edgeport.runtimes.inputs import Array

_MOST: Final = 2048
"""Rows, or samples where rows are not free: more would take minutes, and change nothing."""

_FEW: Final = 100
"""Of a hundred images, others keep as much as these do; of 32, up to 10 dB less; of 8, up to 25."""

_FAR: Final = 4
"""Times the largest value of the samples: of another scale, as 0 to 255 is for 0 to 1."""

_UNSEEN: Final = 2000
"""The first seed: no sample of the proof is drawn with so many."""

Inputs = Sequence[Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What ranges are measured on.

    Attributes:
        inputs: As many as the model takes at once in each.
        origin: What they are, for the manifest.
        doubts: Sentences for the user, if they show less than they should.
    """

    inputs: Inputs
    origin: str
    doubts: tuple[str, ...] = ()


def check_finite(given: Inputs, names: Sequence[str]) -> None:
    """Refuse what no range can be measured on.

    Args:
        given: Inputs, each complete.
        names: What to call each.

    Raises:
        SourceError: There is NaN or Inf.
    """
    for called, sample in zip(names, given, strict=True):
        for name, array in sample.items():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise SourceError(
                    f"{called} has NaN or Inf in {name!r}, from which no range can be taken",
                    remedy="leave out the rows that have them",
                )


def calibration_of(source: Source, given: Inputs) -> Calibration:
    """What was given for it; or half of the samples; or what is drawn and is no sample.

    Args:
        source: What is compiled.
        given: By the caller, for this alone.
    """
    if given:
        real, what = given, "given as calibration"
    elif half := _every_second(source):
        real, what = half, "half of the samples"
    else:
        real, what = source.real, "which the proof has too" if source.real else "drawn"
    inputs = _inputs(source, real)
    count = _count(source, inputs)
    what_counts = "sample" if rows_of(source.signature) is None else "row"
    counted = f"{count:,} {what_counts}{'s' * (count != 1)}"
    few = f"{counted}, and others" if count < _FEW else None
    doubted = few if real else "drawn inputs, and real ones"
    doubts = [
        f"int8: ranges of values were measured on {doubted} may leave them: give a hundred real "
        "ones or more with --calibration, or twice as many with --samples"
    ] * bool(doubted)
    doubts += _other_scales(given, source.real)
    return Calibration(inputs, f"of {counted}, {what}", tuple(doubts))


def _other_scales(given: Inputs, samples: Inputs) -> Iterator[str]:
    """What was given for ranges alone should be like what it is used for."""
    for name in [n for n, array in given[0].items() if array.dtype.kind == "f"] if given else []:
        here, there = (
            max(float(np.abs(each[name]).max(initial=0)) for each in inputs)
            for inputs in (given, samples)
        )
        if not there <= _FAR * here <= _FAR**2 * there:
            yield (
                f"int8: {name!r} gets as far as {here:.3g} in the calibration and {there:.3g} in "
                "the samples: give both on the same scale"
            )


def _every_second(source: Source) -> Inputs:
    """Every second sample, or every second row of a single one; none if there is but one."""
    if len(source.real) > 1:
        return source.real[::2]
    if rows_of(source.signature) is None:
        return ()
    return [
        {name: array[::2] for name, array in sample.items()}
        for sample in source.real
        if all(len(array) > 1 for array in sample.values())
    ]


def _inputs(source: Source, real: Inputs) -> Inputs:
    """Cut to what the model takes at once; of many, some from everywhere."""
    parts: Inputs = []
    with contextlib.suppress(SourceError):  # however it is cut, the model does not take it
        parts = [part for sample in real for part in parts_of(source, sample)]
    parts = parts or list(_at_sizes_of_proof(source, real))
    return parts[:: math.ceil(_count(source, parts) / _MOST)]


def _at_sizes_of_proof(source: Source, real: Inputs) -> Iterator[dict[str, Array]]:
    """Real values, or drawn ones, as large as the samples of the proof."""
    values = replace(source.values, real=real)
    usual = [sample for sample in source.samples if sample.kind != "edge"]
    for seed, sample in enumerate(usual, _UNSEEN):
        sizes = sizes_of(source.signature, sample.inputs)
        yield inputs_at(source.signature, sizes, values, seed)


def _count(source: Source, inputs: Inputs) -> int:
    if rows_of(source.signature) is None:
        return len(inputs)
    return sum(len(next(iter(sample.values()))) for sample in inputs)
