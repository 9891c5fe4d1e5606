"""Faster, slower, equivalent or inconclusive: what two series of measurements say together.

Two variants that were measured in turn are paired: the ratio of their medians in one round
cancels what the machine did meanwhile. The mean of a process's log ratios is one observation, so
that the differences between processes of one program are in the interval. (Kalibera & Jones 2013,
Rigorous Benchmarking in Reasonable Time.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from edgeport.runtimes.inputs import Array

from .loops import Durations
from .statistics import (
    SMALLEST_PROCESSES,
    Interval,
    exponential,
    mean_interval,
    means_of_stretches,
    stretches,
    t_of_stretches,
)

Verdict = Literal["faster", "slower", "equivalent", "inconclusive"]

MARGIN: Final = 0.03
"""Variants are equivalent if their ratio is sure to be within 1 / 1.03 and 1.03."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One variant beside another.

    Attributes:
        name: Its label.
        baseline: The other's.
        ratio: How many times longer it takes than the baseline, with its interval; than the mean
            of both sets of the baseline's processes, where there are two.
        noise: How far these two sets were apart, as a ratio of at least 1; ``None`` where there
            is one.
        margin: What counts as equivalent.
        verdict: In a word.
    """

    name: str
    baseline: str
    ratio: Interval
    noise: float | None
    margin: float
    verdict: Verdict

    def __str__(self) -> str:
        return f"{self.name} {self.sentence} {self.baseline}"

    @property
    def sentence(self) -> str:
        """The verdict, to be followed by the name of the baseline."""
        value = self.ratio.value
        match self.verdict:
            case "slower" if value >= 2:
                return f"takes {value:.3g} times as long as"
            case "faster" if value <= 0.5:
                return f"is {1 / value:.3g} times as fast as"
            case "faster" | "slower":
                return f"is {abs(value - 1):.1%} {self.verdict} than"
            case "equivalent":
                return f"is equivalent within {self.margin:.0%} to"
            case "inconclusive":
                return "is not shown to differ from"


def paired(
    name: str,
    baseline: str,
    durations_ns: Durations,
    baseline_ns: Durations,
    twin_ns: Durations | None = None,
    margin: float = MARGIN,
) -> Comparison:
    """Compare two variants that were measured round by round in turn.

    A second set of the baseline's processes halves the part of the variance that is the baseline's,
    and shows what equals differ by.

    Args:
        name: Of the variant.
        baseline: Of what it is compared with.
        durations_ns: ``(processes, rounds, calls)``.
        baseline_ns: The same processes and rounds of the baseline.
        twin_ns: Of a second set of processes of the baseline.
        margin: What counts as equivalent.
    """
    logs = _paired_logs(durations_ns, baseline_ns)
    noise = None
    if twin_ns is not None:
        apart = _paired_logs(twin_ns, baseline_ns)
        logs = logs - apart / 2
        noise = math.exp(abs(float(apart.mean())))
    ratio = _ratio(logs)
    return Comparison(name, baseline, ratio, noise, margin, _verdict(ratio, noise, margin))


def unpaired(
    name: str,
    baseline: str,
    medians_ns: Sequence[float],
    baseline_ns: Sequence[float],
    margin: float = MARGIN,
) -> Comparison:
    """Compare two variants that were measured at different times.

    The interval is Welch's over processes, or over stretches of them if that is wider: a mood of
    the machine outlasts a process, and may be another the next time.

    Args:
        name: Of the variant.
        baseline: Of what it is compared with.
        medians_ns: Of each of its processes.
        baseline_ns: Of each of the baseline's.
        margin: What counts as equivalent.
    """
    a, b = np.log(medians_ns), np.log(baseline_ns)
    fewest = min(len(a), len(b))
    difference = float(a.mean() - b.mean())
    ratio = Interval(math.exp(difference), None, None)
    if fewest >= SMALLEST_PROCESSES:
        half = max(_welch(a, b, count) for count in stretches(fewest))
        ratio = exponential(Interval(difference, difference - half, difference + half))
    return Comparison(name, baseline, ratio, None, margin, _verdict(ratio, None, margin))


def _welch(a: Array, b: Array, count: int) -> float:
    """Half of the interval of a difference of means, each of some stretches of processes."""
    fewest = min(len(a), len(b))
    if count < fewest:
        a, b = (means_of_stretches(each, count) for each in (a, b))
    parts = [float(each.var(ddof=1)) / len(each) for each in (a, b)]
    total = sum(parts)
    squares = parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1)
    degrees = total**2 / squares if squares else float(len(a) + len(b) - 2)
    return t_of_stretches(count, fewest, degrees) * math.sqrt(total)


def paired_ratio(durations_ns: Durations, baseline_ns: Durations) -> Interval:
    """How many times longer one variant takes than another measured in turn with it."""
    return _ratio(_paired_logs(durations_ns, baseline_ns))


def _paired_logs(durations_ns: Durations, baseline_ns: Durations) -> Array:
    """Of every process, the median over its rounds of the log ratio of the rounds' medians."""
    a, b = (np.median(each, axis=2) for each in (durations_ns, baseline_ns))  # (P, R)
    logs: Array = np.median(np.log(a / b), axis=1)
    return logs


def _ratio(logs: Array) -> Interval:
    return exponential(mean_interval(logs.tolist()))


def _verdict(ratio: Interval, noise: float | None, margin: float) -> Verdict:
    """A difference must be beyond chance, and beyond what two equals differ by here."""
    if ratio.low is None or ratio.high is None:
        return "inconclusive"
    if 1 / (1 + margin) < ratio.low and ratio.high < 1 + margin:
        return "equivalent"
    if ratio.low > 1 and ratio.value > (noise or 1):
        return "slower"
    if ratio.high < 1 and ratio.value < 1 / (noise or 1):
        return "faster"
    return "inconclusive"
