"""The largest error that each output of each golden sample may have: parity as plain numbers.

A program that knows them judges as ``edgeport verify`` does, without the rule that made them.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.parity.thresholds import Precision, Thresholds, floor_scale
from edgeport.runtimes.parity.verdict import Verdict, counts_together, median_bar, owes_integers
from edgeport.runtimes.parity.verification import check_answers


@dataclass(frozen=True, slots=True)
class Bar:
    """What one output of one sample is compared with, and how far from it it may be.

    Attributes:
        reference: Which golden tensor is nearest to the truth.
        rms: Largest root mean square of all errors, in the output's unit; 0 for integers.
        largest: Largest single error; for integers and bools, how many may differ.
    """

    reference: Literal["oracle", "eager"]
    rms: float
    largest: float


@dataclass(frozen=True, slots=True)
class MedianBar:
    """What one output keeps over many samples: a fault is there in most, bad luck in one.

    Attributes:
        share: Largest median of the rms errors, each divided by its own ``Bar.rms``.
        samples: Which of them count.
    """

    share: float
    samples: tuple[int, ...]


def bars(
    samples: Sequence[Golden], thresholds: Thresholds, reduced: Precision | None = None
) -> tuple[list[dict[str, Bar]], dict[str, MedianBar]]:
    """The bars of every output by sample, and those over all samples.

    An error passes the rule of ``runtimes.parity`` if it is at most the floor times the
    largest ratio; both are known once eager and oracle are. A narrower precision must also keep
    its signal-to-noise ratio, which bounds the rms. Not among these numbers are the margin of its
    flipped decisions, and how many integers differ over all samples together.

    Raises:
        EngineError: Two samples have different outputs.
    """
    found = check_answers((sample.eager for sample in samples), samples, thresholds)
    verdicts = iter(found)
    every = [
        {name: _bar(next(verdicts), thresholds, reduced) for name in sample.eager}
        for sample in samples
    ]
    return every, {} if reduced else _medians(samples, found, thresholds)


def _bar(verdict: Verdict, thresholds: Thresholds, reduced: Precision | None) -> Bar:
    figures, edge = verdict.figures, verdict.kind == "edge"
    keep = thresholds.bar_of(reduced) if reduced else None
    if figures.rule == "exact":
        flips = max(1, math.floor(keep.max_flips * figures.elements)) if keep else 0
        if reduced and not owes_integers(verdict.kind, reduced):
            flips = figures.elements
        return Bar("eager", 0.0, float(flips))
    ratio = thresholds.ratio_of(verdict.output, edge=edge)
    if reduced:
        ratio *= floor_scale(reduced, figures.dtype)
    rms = figures.floor_rms * ratio
    if keep and not edge:
        rms = min(rms, figures.signal_rms * 10 ** (-keep.min_snr_db / 20))
    return Bar(
        "oracle" if figures.rule == "oracle" else "eager",
        min(rms, sys.float_info.max),
        min(figures.floor_max * ratio, sys.float_info.max),
    )


def _medians(
    samples: Sequence[Golden], verdicts: Sequence[Verdict], thresholds: Thresholds
) -> dict[str, MedianBar]:
    found = {}
    for output in samples[0].eager if samples else ():
        own = [verdict for verdict in verdicts if verdict.output == output]
        counted = [place for place, verdict in enumerate(own) if counts_together(verdict)]
        if counted:
            ratio = thresholds.ratio_of(output)
            elements = min(own[place].figures.elements for place in counted)
            found[output] = MedianBar(median_bar(ratio, elements) / ratio, tuple(counted))
    return found
