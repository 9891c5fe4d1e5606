"""The latency of every way to run one or more bundles, on the very sessions that users call."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeport.runtimes.bundles.bundle import Bundle, read_manifest
from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.errors import BackendMissingError, UsageError
from edgeport.runtimes.rehearsal import rehearse
from edgeport.runtimes.safety.isolation import Limits
from edgeport.runtimes.session import BACKENDS, Options

from . import doubts
from .compared import MARGIN, Comparison, paired, paired_ratio
from .disturbance import CLEAN_SHARE
from .environment import Environment
from .gpu import GpuUse, energy_uj_per_call
from .loops import Durations
from .peak import PeakFound
from .result import Latency, Result, Unusable
from .rounds import OnStep, Series, measure
from .setting import Closed, Cold, Mode, OpenLoop, Paced, Peak, Setting, Variant
from .statistics import PERCENTS, Interval, Percentile, exponential, mean_in_time, percentiles
from .sweep import Sweep, divide, usable_devices, variants
from .workload import feed, fitting_rows, refuse_rows_twice

LONGEST_S: Final = 86_400
"""A day."""
MOST_PROCESSES: Final = 100
COLD_PROCESSES: Final = 7
"""One is a handful of figures, and the machine's mood at that moment."""

SECONDS_PER_PROCESS: Final = 4
FEWEST_PROCESSES: Final = 3
"""More time is spent on more processes, from 3 to 16, because they differ."""


def benchmark(
    bundles: Sequence[Bundle],
    sweep: Sweep | None = None,
    *,
    mode: Mode | None = None,
    percents: Sequence[float] = PERCENTS,
    budget_s: float = 20.0,
    processes: int | None = None,
    seed: int = 0,
    margin: float = MARGIN,
    trusted: tuple[Path, ...] | None = None,
    limits: Limits | None = None,
    on_step: OnStep = lambda *_: None,
) -> Result:
    """Time every combination of the sweep, round by round in turn, in several fresh processes.

    Args:
        bundles: What to time. With two or more, each is compared with the first, and the first
            is measured twice to see how far equals are apart.
        sweep: What to vary; nothing but the backends if it is left out.
        mode: How the calls follow one another; back to back if it is left out.
        percents: Which percentiles to give.
        budget_s: About how long to measure, without the starts of the processes.
        processes: Fresh ones of every setting; ``None`` for one in four seconds, 3 to 16, as far
            as their starts take no more time than the measurement.
        seed: Of the order within rounds, of the arrivals and of the intervals.
        margin: Ratios within 1 / (1 + margin) and 1 + margin are called equivalent.
        trusted: As in ``Bundle.read``.
        limits: What a child process may use that runs each backend once before it is timed, for
            a bundle of somebody else; ``None`` for no such rehearsal.
        on_step: Told what is being done, how many steps are done, and how many there are.

    Raises:
        UsageError: An argument makes no sense, or a backend or size does not fit a bundle.
        BackendMissingError: A backend that was asked for is not usable here, or none is.
        IntegrityError: A file is not the one that was packed.
        ContractError: An engine does not do what was asked.
        EngineError: An engine refused its artefact, failed, or took its process with it.
    """
    sweep, mode = sweep or Sweep(), mode or Closed()
    if sweep.batches is not None:
        refuse_rows_twice(bundles, sweep.sizes or {})
    else:
        sweep = replace(sweep, batches=(fitting_rows(bundles, 1),))
    _check_arguments(budget_s, processes, mode, percents)
    _check_paths(bundles)
    backends, unusable = divide(bundles, sweep.backends, sweep.devices)
    found = variants(bundles, backends, sweep)
    _check_workloads(bundles, sweep)
    if limits is not None:
        elsewhere = _rehearse(bundles, backends, sweep, limits)
        unusable += tuple(elsewhere.values())
        found = [variant for variant in found if variant.setting.backend not in elsewhere]
    environment = Environment.read()
    start = time.monotonic()
    twins = _twins(found, bundles)
    series = measure(
        [*found, *twins.values()],
        mode,
        processes=processes or _processes(mode, budget_s),
        fewest=processes or FEWEST_PROCESSES,
        budget_s=budget_s,
        seed=seed,
        trusted=trusted,
        on_step=on_step,
    )
    elapsed_s = time.monotonic() - start
    by_path = {bundle.path: bundle for bundle in bundles}
    latencies = {v: _latency(v, series[v], by_path, mode, percents, seed) for v in found}
    shares = [each.clean_share for each in latencies.values() if each.clean_share is not None]
    generations = len(series[found[0]].peak_memory_bytes)
    rounds = latencies[found[0]].rounds_ns.shape[1]
    return Result(
        mode=mode,
        seed=seed,
        budget_s=budget_s,
        elapsed_s=elapsed_s,
        processes=generations,
        environment=environment,
        variants=_ranked(latencies),
        comparisons=_comparisons(found, twins, series, margin, mode),
        unusable=unusable,
        doubts=(
            *doubts.of_counts(generations, rounds, mode),
            *doubts.of_the_whole(environment, sweep, shares, elapsed_s),
        ),
    )


def _processes(mode: Mode, budget_s: float) -> int:
    if isinstance(mode, Cold):
        return COLD_PROCESSES
    return min(max(round(budget_s / SECONDS_PER_PROCESS), FEWEST_PROCESSES), 16)


def _check_arguments(
    budget_s: float, processes: int | None, mode: Mode, percents: Sequence[float]
) -> None:
    if not 0 < budget_s <= LONGEST_S:  # NaN is refused too
        raise UsageError(
            f"the time to measure is {budget_s} s",
            remedy=f"give a time above 0 s and of at most {LONGEST_S:,} s",
        )
    if processes is not None and not 1 <= processes <= MOST_PROCESSES:
        raise UsageError(
            f"{processes} processes were asked for",
            remedy=f"give a number from 1 to {MOST_PROCESSES}",
        )
    for percent in percents:
        if not 0 < percent < 100:
            raise UsageError(
                f"the percentile {percent:g} was asked for", remedy="give one between 0 and 100"
            )
    if isinstance(mode, OpenLoop) and not 1 / LONGEST_S <= mode.rate_hz < math.inf:
        raise UsageError(
            f"the rate is {mode.rate_hz} requests/s", remedy="give one request a day at least"
        )
    if isinstance(mode, Paced) and not 0 <= mode.think_ns <= LONGEST_S * 10**9:
        raise UsageError(
            f"{mode.think_ns / 1e9:g} s between calls were asked for",
            remedy=f"give a time of at most {LONGEST_S:,} s",
        )
    if isinstance(mode, Peak) and not (mode.bound_ns > 0 and 0 < mode.percent < 100):
        raise UsageError(
            f"p{mode.percent:g} is to keep {mode.bound_ns / 1e6:g} ms",
            remedy="give a time above 0 and a percentile between 0 and 100",
        )


def _check_paths(bundles: Sequence[Bundle]) -> None:
    known: set[Path] = set()
    for path in (bundle.path.resolve() for bundle in bundles):
        if path in known:
            raise UsageError(
                f"{path} was named twice", remedy="name each bundle once; compare with a copy"
            )
        known.add(path)


def _check_workloads(bundles: Sequence[Bundle], sweep: Sweep) -> None:
    """Refuse what a model does not take before any process is started."""
    for bundle in bundles:
        for workload in sweep.workloads:
            feed(bundle, workload)


def _rehearse(
    bundles: Sequence[Bundle], backends: Sequence[str], sweep: Sweep, limits: Limits
) -> dict[str, Unusable]:
    """Run each backend once. Returns those whose artefact is for another machine.

    Raises:
        BackendMissingError: One of them was asked for, or there are no others.
        EngineError: An engine refused its artefact, failed, or took its process with it.
    """
    elsewhere: dict[str, Unusable] = {}
    for bundle in bundles:
        inputs = [feed(bundle, workload).inputs for workload in sweep.workloads]
        for name in backends:
            for device in usable_devices(name, sweep.devices):
                gpu = sweep.gpu if BACKENDS[name].on_gpu(device) else GpuOptions()
                options = Options(threads=1, device=device, gpu=gpu)
                try:
                    rehearse(bundle, name, inputs, options, limits)
                except BackendMissingError as e:
                    elsewhere[name] = Unusable(name, e.problem, e.remedy)
                    if sweep.backends or len(elsewhere) == len(backends):
                        raise
    return elsewhere


def _twins(found: Sequence[Variant], bundles: Sequence[Bundle]) -> dict[Variant, Variant]:
    """Of every variant of the first bundle a second one, if there is something to compare."""
    if len(bundles) < 2:
        return {}
    return {
        variant: replace(variant, setting=replace(variant.setting, twin=True))
        for variant in found
        if variant.setting.bundle == bundles[0].path
    }


def _latency(
    variant: Variant,
    series: Series,
    bundles: Mapping[Path, Bundle],
    mode: Mode,
    percents: Sequence[float],
    seed: int,
) -> Latency:
    bundle, setting = bundles[variant.setting.bundle], variant.setting
    artefact = bundle.artefact(setting.backend).stored
    peaks = tuple(series.peaks)
    rates = [peak.rate_hz for peak in peaks if peak.rate_hz is not None]
    rounds = np.stack(series.rounds_ns) if series.rounds_ns else np.zeros((0, 0, 0), np.int64)
    timed = bool(rounds.size)
    calm = _calm(series, mode) if timed else None
    memory = [peak for peak in series.peak_memory_bytes if peak is not None]
    rows = series.opened.rows[series.workload]
    gpu = _gpu(series, rounds.size)
    return Latency(
        label=variant.label,
        bundle=bundle.manifest.name,
        manifest_sha256=hashlib.sha256(read_manifest(bundle.files, bundle.path)).hexdigest(),
        file=artefact.file,
        sha256=artefact.sha256,
        engine=series.opened.engine,
        spinning=setting.spinning,
        engine_only=setting.engine_only,
        sample=series.opened.samples[series.workload],
        shapes=series.opened.shapes[series.workload],
        rows=rows,
        percentiles=percentiles(rounds, percents, seed=seed) if timed else (),
        clean=_clean(rounds, calm, percents, seed) if calm is not None else (),
        clean_share=None if calm is None else float(calm.mean()),
        rows_per_s=rows * 1e9 / float(rounds.mean()) if timed and mode == Closed() else None,
        cpu_ns_per_call=_cpu_ns_per_call(series, rounds.size),
        energy_uj_per_call=_energy_uj_per_call(series, rounds.size),
        peak_memory_bytes=max(memory, default=None),
        cold_starts=tuple(series.cold_starts),
        times_fastest=None,
        peak_hz=_mean_rate(rates, len(peaks)),
        peaks=peaks,
        doubts=(*_doubts(rounds, peaks, mode), *doubts.of_gpu(gpu)),
        gpu=gpu,
        warmup_ns=tuple(series.warmup_ns),
        rounds_ns=rounds,
        disturbances=tuple(map(tuple, series.disturbances)),
    )


def _doubts(rounds: Durations, peaks: Sequence[PeakFound], mode: Mode) -> tuple[str, ...]:
    return doubts.of_figures(rounds, mode) if rounds.size else doubts.of_peaks(peaks, mode)


def _gpu(series: Series, calls: int) -> GpuUse | None:
    if series.opened.card is None:
        return None
    wall_ns = sum(d.wall_ns for process in series.disturbances for d in process)
    return GpuUse(
        card=series.opened.card,
        rounds=tuple(map(tuple, series.gpu)),
        energy_uj_per_call=energy_uj_per_call(series.gpu, wall_ns, calls),
        parts_ns=np.concatenate(series.parts_ns) if series.parts_ns else None,
    )


def _calm(series: Series, mode: Mode) -> NDArray[np.bool_]:
    """Which rounds were left in peace, ``(processes, rounds)``."""
    engine = series.opened.engine
    waits = engine.threads > 1 or engine.device.startswith("cuda") or not isinstance(mode, Closed)
    lost = [[d.lost_share(waits=waits) for d in each] for each in series.disturbances]
    return np.array(lost) <= CLEAN_SHARE


def _clean(
    rounds: Durations, calm: NDArray[np.bool_],
    percents: Sequence[float], seed: int,
) -> tuple[Percentile, ...]:  # fmt: skip
    """Percentiles of the calm rounds alone. They are clusters of one process: who knows which."""
    kept = rounds[calm]  # (clean rounds, calls)
    return percentiles(kept[:, np.newaxis, :], percents, seed=seed) if kept.size else ()


def _cpu_ns_per_call(series: Series, calls: int) -> float | None:
    used = [d.cpu_ns for process in series.disturbances for d in process]
    return sum(used) / calls if calls else None


def _energy_uj_per_call(series: Series, calls: int) -> float | None:
    used = [energy for process in series.energy_uj for energy in process]
    if not calls or any(energy is None or energy < 0 for energy in used):
        return None
    return sum(filter(None, used)) / calls


def _mean_rate(rates: Sequence[float], processes: int) -> Interval | None:
    """The mean on a log scale; a process that found no rate leaves it open."""
    if not rates or len(rates) < processes:
        return None
    return exponential(mean_in_time(np.log(rates).tolist()))


def _ranked(latencies: Mapping[Variant, Latency]) -> tuple[Latency, ...]:
    """Fastest first, with how many times longer each takes than the fastest of its workload."""
    known = {v: found.median_ns for v, found in latencies.items() if found.median_ns is not None}
    ranked: list[Latency] = []
    for variant, latency in latencies.items():
        rivals = {v: ns for v, ns in known.items() if v.workload == variant.workload}
        fastest = min(rivals, key=rivals.__getitem__, default=None)
        ratio = None
        if fastest is not None and variant in known:
            ratio = paired_ratio(latency.rounds_ns, latencies[fastest].rounds_ns)
        ranked.append(replace(latency, times_fastest=ratio))
    return tuple(sorted(ranked, key=lambda found: (found.rows, found.median_ns or math.inf)))


def _comparisons(
    found: Sequence[Variant],
    twins: Mapping[Variant, Variant],
    series: Mapping[Variant, Series],
    margin: float,
    mode: Mode,
) -> tuple[Comparison, ...]:
    """Each variant of a later bundle beside the same of the first one."""
    if isinstance(mode, Peak | Cold):
        return ()

    def rounds(variant: Variant) -> Durations:
        return np.stack(series[variant].rounds_ns)

    comparisons: list[Comparison] = []
    for baseline, twin in twins.items():
        for variant in found:
            if variant is not baseline and _is_counterpart(variant, baseline):
                comparisons.append(
                    paired(
                        variant.label,
                        baseline.label,
                        rounds(variant),
                        rounds(baseline),
                        rounds(twin),
                        margin,
                    )
                )
    return tuple(comparisons)


def _is_counterpart(variant: Variant, baseline: Variant) -> bool:
    return variant.workload == baseline.workload and _unnamed(variant) == _unnamed(baseline)


def _unnamed(variant: Variant) -> Setting:
    return replace(variant.setting, bundle=Path())
