"""The levels of a measurement: process, session, round, call.

A generation is one fresh process per setting. Its rounds time every variant once, in random
order, and are spread over the generation's share of the time, with pauses if the calls are quick:
so all variants meet every state of the machine, and the machine has time to change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .crew import Worker, crew
from .disturbance import Disturbance
from .gpu import GpuRound
from .loops import Durations
from .orders import ColdStart, Opened, Round, Seek, Timed, WarmUp
from .peak import PeakFound
from .setting import Closed, Cold, Mode, OpenLoop, Paced, Peak, Setting, Variant

WARMUP_SHARE: Final = 0.1
"""Of the time budget; at least ``WARMUP_CALLS`` calls whatever it is."""
WARMUP_CALLS: Final = 10
MOST_WARMUP_CALLS: Final = 2000

MOST_ROUNDS: Final = 600
"""In all processes together, if calls follow one another. A busy machine changes its mood within
tenths of a second, so short rounds in turn pair better than long ones: docs/log.md."""
FEWEST_ROUNDS: Final = 10
"""In all processes together, planned."""
SURE_ROUNDS: Final = 2
"""In the first process, however slow the calls turn out to be."""
MOST_CALLS: Final = 50
"""Per round. 600 x 50 raw samples support p99 amply and are about 200 kB of JSON."""
OPEN_ROUND: Final = 10
"""How many times longer a round of an open loop is, and how many times fewer there are: every
round begins without a queue, which has to grow first."""
WANTED_CALLS: Final = 5
"""Per round, and at least as much time as it takes to settle, before there are more rounds."""
OVERTIME: Final = 3
"""Times the budget, starts included, after which no more processes than the fewest are started."""

SETTLE_NS: Final = 2_000_000
"""Calls that begin a round and don't count. After another engine ran, the first call takes 3 to 17
times the steady one and the tenth is within 6 % (a small CNN, three engines)."""

_clock = time.perf_counter_ns

OnStep = Callable[[str, int, int], None]
"""Told what is being done, how many steps are done, and how many there are."""


@dataclass(slots=True, eq=False)
class Series:
    """What was measured of one variant, by process.

    Attributes:
        opened: What its first process opened.
        workload: Its number among the workloads of that process.
        warmup_ns: By process: the calls that don't count.
        rounds_ns: By process: ``(rounds, calls)``.
        disturbances: By process and round.
        energy_uj: By process and round; ``None`` where it cannot be read.
        gpu: By process, its rounds; empty without a GPU that can be read.
        parts_ns: Of every round: ``(calls, 4)``, as in ``GpuUse``.
        cold_starts: For the mode ``Cold`` only: elsewhere several processes start at a time.
        peak_memory_bytes: By process; ``None`` where it isn't told.
        peaks: By process, for the mode ``Peak`` only.
    """

    opened: Opened
    workload: int
    warmup_ns: list[Durations] = field(default_factory=list)
    rounds_ns: list[NDArray[np.int64]] = field(default_factory=list)
    disturbances: list[list[Disturbance]] = field(default_factory=list)
    energy_uj: list[list[int | None]] = field(default_factory=list)
    gpu: list[list[GpuRound]] = field(default_factory=list)
    parts_ns: list[Durations] = field(default_factory=list)
    cold_starts: list[ColdStart] = field(default_factory=list)
    peak_memory_bytes: list[int | None] = field(default_factory=list)
    peaks: list[PeakFound] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Plan:
    """How the time is divided.

    Attributes:
        rounds: In every process.
        calls: In every round, by variant.
    """

    rounds: int
    calls: dict[Variant, int]


def measure(
    variants: Sequence[Variant],
    mode: Mode,
    *,
    processes: int,
    fewest: int,
    budget_s: float,
    seed: int,
    trusted: tuple[Path, ...] | None = None,
    on_step: OnStep = lambda *_: None,
) -> dict[Variant, Series]:
    """Time every variant.

    Args:
        variants: What to time. Those with the same setting share a process of each generation.
        mode: How the calls follow one another.
        processes: Generations; fewer if their starts would take more time than the measurement.
        fewest: But at least these.
        budget_s: About how long the whole takes, without the starts of the processes. If calls
            turn out to be far slower than at first, there are fewer processes.
        seed: Of the order within rounds, and of the arrivals.
        trusted: As in ``Bundle.read``.
        on_step: Told of every step.

    Raises:
        EdgeportError: A bundle cannot be opened or run; ``EngineError`` if a process died.
    """
    budget_ns = int(budget_s * 1e9)
    run = _Run(list(variants), mode, processes, fewest, budget_ns, seed, trusted, on_step)
    generation, start = 0, _clock()
    while generation < run.processes:
        run.generation(generation)
        generation += 1
        if generation >= fewest and _clock() - start > OVERTIME * budget_ns:
            break  # calls have become far slower than the plan took them to be
    return run.series


@dataclass(slots=True, eq=False)
class _Run:
    variants: list[Variant]
    mode: Mode
    processes: int
    fewest: int
    budget_ns: int
    seed: int
    trusted: tuple[Path, ...] | None
    on_step: OnStep
    series: dict[Variant, Series] = field(default_factory=dict)
    plan: Plan | None = None

    def generation(self, number: int) -> None:
        """One fresh process per setting, and its rounds."""
        order = np.random.default_rng((self.seed, number))
        if isinstance(self.mode, Cold):
            self._cold(order, number)
            return
        settings = list(dict.fromkeys(variant.setting for variant in self.variants))
        workloads = list(dict.fromkeys(variant.workload for variant in self.variants))
        what = f"process {number + 1} of {self.processes}"
        self.on_step(f"{what}: starting", number, self.processes)
        start = _clock()
        with crew(settings, workloads, self.trusted) as members:
            if number == 0:
                affordable = self.budget_ns // (_clock() - start)
                self.processes = max(self.fewest, min(self.processes, affordable))
            workers: dict[Setting, Worker] = {}
            for setting, (worker, opened) in zip(settings, members, strict=True):
                workers[setting] = worker
                for variant in self.variants:
                    if variant.setting == setting:
                        place = workloads.index(variant.workload)
                        self.series.setdefault(variant, Series(opened, place))
            self._warm_up(workers, order)
            if isinstance(self.mode, Peak):
                self._seek(self.mode, workers, order, number)
            else:
                self._rounds(self.mode, workers, order, number)
            peaks = {setting: worker.finish() for setting, worker in workers.items()}
        for variant, series in self.series.items():
            series.peak_memory_bytes.append(peaks[variant.setting])

    def _cold(self, order: np.random.Generator, number: int) -> None:
        """One process after the other."""
        for done, variant in enumerate(self._shuffled(order)):
            past, total = number * len(self.variants) + done, self.processes * len(self.variants)
            self.on_step(f"start {number + 1} of {variant.label}", past, total)
            with crew([variant.setting], [variant.workload], self.trusted) as ((worker, opened),):
                series = self.series.setdefault(variant, Series(opened, 0))
                series.cold_starts.append(opened.cold)
                series.peak_memory_bytes.append(worker.finish())

    def _warm_up(self, workers: Mapping[Setting, Worker], order: np.random.Generator) -> None:
        share_ns = int(WARMUP_SHARE * self.budget_ns / self.processes / len(self.variants))
        for variant in self._shuffled(order):
            series = self.series[variant]
            request = WarmUp(series.workload, WARMUP_CALLS, share_ns, MOST_WARMUP_CALLS)
            series.warmup_ns.append(workers[variant.setting].ask(request, np.ndarray))

    def _rounds(
        self,
        mode: Closed | Paced | OpenLoop,
        workers: Mapping[Setting, Worker],
        order: np.random.Generator,
        number: int,
    ) -> None:
        share_ns = int((1 - WARMUP_SHARE) * self.budget_ns / self.processes)
        if self.plan is None:
            self.plan = plan(self._latencies_ns(), mode, self.processes, share_ns)
        found: dict[Variant, list[Timed]] = {variant: [] for variant in self.variants}
        start = _clock()
        for done in range(self.plan.rounds):
            time.sleep(max(0, start + done * share_ns // self.plan.rounds - _clock()) / 1e9)
            for variant in self._shuffled(order):
                request = Round(
                    self.series[variant].workload,
                    mode,
                    self.plan.calls[variant],
                    SETTLE_NS,
                    (self.seed, number, done),
                )
                found[variant].append(workers[variant.setting].ask(request, Timed))
            past = number * self.plan.rounds + done + 1
            total = self.processes * self.plan.rounds
            self.on_step(f"process {number + 1}, round {done + 1}", past, total)
            if number == 0 and done + 1 >= SURE_ROUNDS and _clock() - start > share_ns:
                self.plan.rounds = done + 1  # slower than the warm-up promised
                break
        for variant, timed in found.items():
            series = self.series[variant]
            series.rounds_ns.append(np.stack([each.durations_ns for each in timed]))
            series.disturbances.append([each.disturbance for each in timed])
            series.energy_uj.append([each.energy_uj for each in timed])
            series.gpu.append([each.gpu for each in timed if each.gpu is not None])
            series.parts_ns += [each.parts_ns for each in timed if each.parts_ns is not None]

    def _seek(
        self,
        mode: Peak,
        workers: Mapping[Setting, Worker],
        order: np.random.Generator,
        number: int,
    ) -> None:
        share_ns = int((1 - WARMUP_SHARE) * self.budget_ns / self.processes / len(self.variants))
        for done, variant in enumerate(self._shuffled(order)):
            series = self.series[variant]
            past = number * len(self.variants) + done
            self.on_step(
                f"process {number + 1}: {variant.label}", past, self.processes * len(self.variants)
            )
            request = Seek(series.workload, mode, share_ns, (self.seed, number))
            series.peaks.append(workers[variant.setting].ask(request, PeakFound))

    def _latencies_ns(self) -> dict[Variant, float]:
        return {
            variant: max(1.0, float(np.median(series.warmup_ns[0][WARMUP_CALLS // 2 :])))
            for variant, series in self.series.items()
        }

    def _shuffled(self, order: np.random.Generator) -> list[Variant]:
        return [self.variants[place] for place in order.permutation(len(self.variants))]


def plan(
    latencies_ns: Mapping[Variant, float],
    mode: Closed | Paced | OpenLoop,
    processes: int,
    share_ns: int,
) -> Plan:
    """Divide a process's share of the time into rounds, and each round into calls.

    Args:
        latencies_ns: About how long one call takes.
        mode: What passes between calls.
        processes: How many there will be.
        share_ns: The time of one of them.
    """
    gaps_ns = {variant: _gap_ns(mode, latency) for variant, latency in latencies_ns.items()}
    settle_ns = {variant: max(SETTLE_NS, latency) for variant, latency in latencies_ns.items()}
    short_round_ns = sum(
        settle_ns[v] + max(settle_ns[v], WANTED_CALLS * gap) for v, gap in gaps_ns.items()
    )
    long = OPEN_ROUND if isinstance(mode, OpenLoop) else 1
    most_calls, most_rounds = MOST_CALLS * long, MOST_ROUNDS // long
    fewest, most = -(-FEWEST_ROUNDS // processes), max(1, most_rounds // processes)
    rounds = min(max(int(share_ns / short_round_ns), fewest), most)
    slice_ns = share_ns / rounds / len(latencies_ns)
    calls = {
        variant: min(max(int((slice_ns - settle_ns[variant]) / gap), 1), most_calls)
        for variant, gap in gaps_ns.items()
    }
    return Plan(rounds, calls)


def _gap_ns(mode: Closed | Paced | OpenLoop, latency_ns: float) -> float:
    """About how long it is from one call to the next."""
    match mode:
        case Closed():
            return latency_ns
        case Paced(think_ns):
            return latency_ns + think_ns
        case OpenLoop(_, rate_hz):
            return max(latency_ns, 1e9 / rate_hz)
