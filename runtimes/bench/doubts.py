"""Reasons to doubt a figure, found in the measurement itself. They are told, and nothing is mended.

A benchmark that goes on until its figures look calm has chosen them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .disturbance import CLEAN_SHARE
from .environment import Environment
from .gpu import GpuUse
from .loops import Durations
from .peak import PeakFound
from .setting import Cold, Mode, OpenLoop, Peak
from .statistics import SMALLEST_PROCESSES, SMALLEST_ROUNDS
from .sweep import Sweep

DRIFT_Z: Final = 3.0
DRIFT_CHANGE: Final = 0.03
"""A trend is told if chance would make it in 1 of 400 runs, and if it matters."""
DRIFT_STRETCHES: Final = 8
"""Of each process: rounds beside one another share the machine's mood, and are no trend."""

TWO_KINDS_D: Final = 4.5
TWO_KINDS_SHARE: Final = 0.1
TWO_KINDS_RATIO: Final = 1.15

QUEUE_GROWTH: Final = 3.0

_SPINNERS: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables that let threads of OpenMP wait in a busy loop."""

STEADY_CLOCK: Final = 0.95
"""The least of a GPU's clocks over the most, below which rounds are not alike."""

CLEAN_ENOUGH: Final = 0.5
"""Share of rounds that were left in peace, below which the machine was too busy."""


PHASES_S: Final = 60.0
"""On a virtual machine that others share, calls took 1.7 times as long in phases of 20 to 30 s: a
shorter benchmark may meet one kind alone (docs/log.md)."""


def of_figures(rounds: Durations, mode: Mode) -> tuple[str, ...]:
    """Sentences on the rounds of a variant, ``(processes, rounds, calls)``."""
    found: list[str] = []
    if isinstance(mode, OpenLoop) and (growth := queue_growth(rounds)) > QUEUE_GROWTH:
        found.append(
            f"requests came faster than they were answered: latency grew to {growth:.2g} times in "
            "a round, and would go on; give a lower rate, or look for the highest: --mode peak"
        )
    change = drift(rounds)
    if change is not None:
        way = "slower" if change > 1 else "quicker"
        found.append(
            f"calls became {abs(change - 1):.0%} {way} while they were measured: "
            + ("the machine throttles or fills up" if change > 1 else "the warm-up was too short")
        )
    if kinds := two_kinds(rounds):
        quick, slow, share = kinds
        found.append(
            f"there are two kinds of calls: {1 - share:.0%} take about {_duration(quick)}, "
            f"{share:.0%} about {_duration(slow)}; no one figure describes both"
        )
    return tuple(found)


def _duration(ns: float) -> str:
    return f"{ns / 1e3:.3g} µs" if ns < 1e6 else f"{ns / 1e6:,.3g} ms"


def of_counts(processes: int, rounds: int, mode: Mode) -> tuple[str, ...]:
    """Sentences on intervals that are not given.

    Args:
        processes: Of every variant.
        rounds: Of every process; 0 where none are timed.
        mode: One of cold starts has no intervals.
    """
    if isinstance(mode, Cold):
        return ()
    if processes < SMALLEST_PROCESSES:
        count = "1 process is" if processes == 1 else f"{processes} processes are"
        return (
            f"{count} too few for intervals, which take {SMALLEST_PROCESSES}: "
            f"--processes {SMALLEST_PROCESSES}",
        )
    if 0 < (total := processes * rounds) < SMALLEST_ROUNDS:
        return (
            f"{total} rounds are too few for intervals of percentiles, which take "
            f"{SMALLEST_ROUNDS}: give more --seconds or --processes",
        )
    return ()


def of_peaks(peaks: Sequence[PeakFound], mode: Mode) -> tuple[str, ...]:
    """Sentences on the rates that the processes of a variant found."""
    failed = [peak for peak in peaks if peak.rate_hz is None]
    if not failed or not isinstance(mode, Peak):
        return ()
    return (
        f"in {len(failed)} of {len(peaks)} processes no rate above a twentieth of the capacity "
        f"kept p{mode.percent:g} within {mode.bound_ns / 1e6:g} ms",
    )


def of_gpu(use: GpuUse | None) -> tuple[str, ...]:
    """Sentences on the GPU of a variant: throttled, shared, or nobody knows."""
    if use is None:
        return ()
    if use.card.gpu is None:
        return (f"the GPU's clocks, power and temperature are not known: {use.card.unknown}",)
    readings, found = use.readings, []
    if use.card.gpu.divided:
        found.append("the GPU is split into instances (MIG), whose neighbours cannot be seen")
    slowed = [r.slowed_by for r in readings if r.slowed_by]
    if slowed:
        why = ", ".join(dict.fromkeys(reason for each in slowed for reason in each))
        found.append(
            f"the GPU held its clock back at the end of {len(slowed) / len(readings):.0%} of the "
            f"rounds: {why}"
        )
    clocks = use.range_of("sm_clock_mhz")
    if clocks is not None and clocks[0] < STEADY_CLOCK * clocks[1]:
        found.append(
            f"the GPU's clock was between {clocks[0]:,} and {clocks[1]:,} MHz; for figures that "
            "repeat, fix it: nvidia-smi -lgc"
        )
    others = [r.others for r in readings if r.others is not None]
    if readings and not others:
        found.append("whether others compute on the GPU cannot be seen from here (a container?)")
    elif most := max(others, default=0):
        found.append(f"{most} other process{'es' * (most > 1)} computed on the GPU meanwhile")
    return tuple(found)


def of_the_whole(
    environment: Environment, sweep: Sweep, clean_shares: Sequence[float], elapsed_s: float
) -> tuple[str, ...]:
    """Sentences on the machine and on what was asked of it.

    Args:
        environment: Before the first call.
        sweep: What was varied.
        clean_shares: Of every variant, the share of its rounds that were left in peace.
        elapsed_s: Seconds from the first process to the last.
    """
    found: list[str] = []
    cpus = environment.cpus
    if environment.load_average > cpus / 2:
        found.append(
            f"the machine was busy before the first call: load {environment.load_average:.1f} "
            f"on {cpus} CPUs; measure again when it is idle"
        )
    if clean_shares and (clean := sum(clean_shares) / len(clean_shares)) < CLEAN_ENOUGH:
        found.append(
            f"the machine was busy meanwhile: in {1 - clean:.0%} of the rounds others took more "
            f"than {CLEAN_SHARE:.0%} of the time"
        )
    if "hypervisor" in environment.cpu_flags and elapsed_s < PHASES_S:
        found.append(
            f"a virtual machine was measured for {elapsed_s:.0f} s, and the load of its neighbours "
            "can change every half a minute: another run may lie outside of the intervals; use "
            "--seconds 60 or more (ratios between the variants are not affected)"
        )
    if most := max((n for n in sweep.threads if n is not None and n > cpus), default=0):
        found.append(f"{most} threads share {cpus} CPUs: they wait for one another")
    spinning = [f"{n}={v}" for n, v in environment.variables if n in _SPINNERS]
    if spinning:
        found.append(
            f"{', '.join(spinning)}: threads of OpenMP that spin take the CPUs from other "
            "processes; unset it, or time one backend at a time"
        )
    return tuple(found)


def drift(rounds_ns: Durations) -> float | None:
    """The change from the first half of the rounds to the second, if there is a trend.

    The trend is Mann and Kendall's over stretches of rounds within each process, summed over the
    processes: calls become quicker if the warm-up was too short, slower if the machine throttles.

    Args:
        rounds_ns: ``(processes, rounds, calls)``.

    Returns:
        The ratio of the two halves, or ``None`` without a trend.
    """
    rounds = np.median(rounds_ns, axis=2)  # (processes, rounds)
    stretches = np.array_split(rounds, min(DRIFT_STRETCHES, rounds.shape[1]), axis=1)
    medians = np.stack([np.median(each, axis=1) for each in stretches], axis=1)
    count = len(stretches)
    if rounds.size < 10 or count < 4:
        return None
    score = sum(_concordance(each) for each in medians)
    variance = len(medians) * count * (count - 1) * (2 * count + 5) / 18
    half = count // 2
    change = float(np.median(medians[:, half:]) / np.median(medians[:, :half]))
    if abs(score) / math.sqrt(variance) < DRIFT_Z or abs(math.log(change)) < DRIFT_CHANGE:
        return None
    return change


def queue_growth(rounds_ns: Durations) -> float:
    """How many times as long the last quarter of a round's requests take as its first, in median.

    Above the capacity a queue grows for as long as requests come: at twice of it 3.0 times in
    rounds of 8, 6.6 in rounds of 500. Below it only the first requests find no queue: in 30 drawn
    benchmarks each at 95 % of it, of 8 to 500 calls a round, 2.8 times was the most.

    Args:
        rounds_ns: ``(processes, rounds, calls)`` of an open loop.
    """
    quarter = rounds_ns.shape[2] // 4
    if not quarter:
        return 1.0
    first = np.median(rounds_ns[:, :, :quarter], axis=2)
    last = np.median(rounds_ns[:, :, -quarter:], axis=2)
    return float(np.median(last / np.maximum(first, 1)))


def two_kinds(durations_ns: Durations) -> tuple[float, float, float] | None:
    """Whether the calls fall into two groups far apart, which no single percentile describes.

    The split is Otsu's on the log durations between the 1st and the 99th percentile; the groups
    are apart if Ashman's D = sqrt(2) |m1 - m2| / sqrt(s1^2 + s2^2) is above 4.5 (a normal
    distribution cut in two has 2.6, a uniform one 3.5; Ashman, Bird & Zepf 1994).

    Args:
        durations_ns: Any shape.

    Returns:
        The two typical durations in ns, and the share of the second; ``None`` for one group.
    """
    logs = np.sort(np.log(np.maximum(durations_ns.ravel(), 1)))
    logs = logs[len(logs) // 100 : len(logs) - len(logs) // 100]
    n = len(logs)
    if n < 40 or logs[0] == logs[-1]:
        return None
    sums = np.cumsum(logs)
    left = np.arange(1, n)
    means = sums[:-1] / left, (sums[-1] - sums[:-1]) / (n - left)
    between = left * (n - left) * (means[0] - means[1]) ** 2
    cut = int(np.argmax(between)) + 1
    quick, slow = logs[:cut], logs[cut:]
    spread = math.sqrt(float(quick.var() + slow.var()))
    apart = float(slow.mean() - quick.mean())
    small = min(len(quick), len(slow)) / n
    if small < TWO_KINDS_SHARE or apart < math.log(TWO_KINDS_RATIO):
        return None
    if spread > 0 and math.sqrt(2) * apart / spread < TWO_KINDS_D:
        return None
    return math.exp(float(quick.mean())), math.exp(float(slow.mean())), len(slow) / n


def _concordance(values: NDArray[np.float64]) -> int:
    later = np.triu_indices(len(values), 1)
    return int(np.sign(values[later[1]] - values[later[0]]).sum())
