"""The latency of every backend of a bundle, on the very sessions that users call."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from edgeport.runtimes.bundle import Bundle
from edgeport.runtimes.errors import BackendMissingError, UsageError
from edgeport.runtimes.rehearsal import rehearse
from edgeport.runtimes.safety.isolation import Limits
from edgeport.runtimes.session import EngineInfo, Options, probe

from .batch import batch_dimension, batch_inputs
from .environment import Environment
from .measure import Measurement, measure
from .result import BackendLatency, Result, Unusable
from .statistics import Interval, paired_ratio, percentiles

LONGEST_S: Final = 86_400
"""A day."""


def benchmark(
    bundle: Bundle,
    backends: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    batch: int = 1,
    budget_s: float = 10.0,
    seed: int = 0,
    limits: Limits | None = None,
    on_round: Callable[[int, int], None] | None = None,
) -> Result:
    """Time every backend that fits the bundle and is usable here, round by round in turn.

    Calls follow one another without a pause: a device that idles between requests is slower.

    Args:
        bundle: What to time.
        backends: Only these, and all of them; ``None`` for those that are usable here.
        threads: As in ``Options``. Torch has one thread count per process: its two backends
            get the same.
        batch: Rows of the inputs, along the named dimension of axis 0.
        budget_s: About how long it takes, without opening the sessions. Ten seconds give three
            backends of a small model 40 rounds of 500 calls each.
        seed: Of the order within rounds and of the intervals.
        limits: What a child process may use that runs each backend once before this one does,
            for a bundle of somebody else; ``None`` for no such rehearsal.
        on_round: Called before the first round and after each, with the number done and planned.

    Raises:
        UsageError: An argument makes no sense, or a backend or batch does not fit the bundle.
        BackendMissingError: A backend of ``backends`` is not usable here, or none is.
        IntegrityError: A file is not the one that was packed.
        ContractError: An engine does not do what was asked.
        EngineError: An engine refused its artefact, or failed.
    """
    _check_arguments(batch, threads, budget_s)
    usable, unusable = _divide(bundle, backends)
    sample, inputs = batch_inputs(bundle, batch)
    options = Options(threads=threads)
    if limits is not None:
        for name in usable:
            rehearse(bundle, name, [inputs], options, limits)
    environment = Environment.read()
    with contextlib.ExitStack() as stack:
        sessions = {name: stack.enter_context(bundle.open(name, options)) for name in usable}
        runs = {name: session.run for name, session in sessions.items()}
        measured = measure(runs, inputs, budget_s=budget_s, seed=seed, on_round=on_round)
        engines = {name: session.engine for name, session in sessions.items()}
    return Result(
        name=bundle.manifest.name,
        sample=sample,
        batch=None if batch_dimension(bundle.manifest.signature) is None else batch,
        shapes={name: array.shape for name, array in inputs.items()},
        seed=seed,
        budget_s=budget_s,
        elapsed_s=measured.elapsed_s,
        environment=environment,
        backends=_latencies(bundle, measured, engines, seed),
        unusable=unusable,
    )


def _check_arguments(batch: int, threads: int | None, budget_s: float) -> None:
    if not 0 < budget_s <= LONGEST_S:  # NaN is refused too
        raise UsageError(
            f"the time to measure is {budget_s} s",
            remedy=f"give a time above 0 s and of at most {LONGEST_S:,} s",
        )
    for name, number in (("batch", batch), ("threads", threads)):
        if number is not None and number < 1:
            raise UsageError(f"{name} is {number}", remedy="give a number of at least 1")


def _divide(
    bundle: Bundle, asked: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[Unusable, ...]]:
    """Names of the backends to time, and why the others cannot be."""
    for name in asked or ():
        bundle.artefact(name)  # raises if there is no such backend, or nothing for it
    found = {name: probe(name) for name in asked or bundle.backends}
    usable = tuple(name for name, available in found.items() if available.usable)
    unusable = tuple(Unusable(n, a.reason, a.remedy) for n, a in found.items() if not a.usable)
    if unusable and asked:
        raise _missing("not usable here", unusable)
    if not usable:
        raise _missing("no backend of this bundle is usable here", unusable)
    return usable, unusable


def _missing(what: str, unusable: Sequence[Unusable]) -> BackendMissingError:
    remedies = dict.fromkeys(entry.remedy for entry in unusable if entry.remedy)
    return BackendMissingError(
        "; ".join([what, *(f"{entry.backend}: {entry.reason}" for entry in unusable)]),
        remedy="; ".join(remedies) or "edgeport doctor shows what works here",
    )


def _latencies(
    bundle: Bundle, measured: Measurement, engines: Mapping[str, EngineInfo], seed: int
) -> tuple[BackendLatency, ...]:
    """Fastest first."""
    rounds = measured.rounds_ns
    found = {name: percentiles(durations, seed=seed) for name, durations in rounds.items()}
    known = {name: p[0].latency_ns.value for name, p in found.items() if p[0].latency_ns}
    fastest = min(known, key=known.__getitem__, default=None)

    def times_fastest(name: str) -> Interval | None:
        if fastest is None or name not in known:
            return None
        return paired_ratio(rounds[name], rounds[fastest], seed=seed)

    latencies = [
        BackendLatency(
            backend=name,
            file=bundle.artefact(name).stored.file,
            sha256=bundle.artefact(name).stored.sha256,
            engine=engine,
            percentiles=found[name],
            times_fastest=times_fastest(name),
            warmup_ns=tuple(measured.warmup_ns[name].tolist()),
            rounds_ns=tuple(map(tuple, rounds[name].tolist())),
        )
        for name, engine in engines.items()
    ]
    return tuple(sorted(latencies, key=lambda latency: known.get(latency.backend, math.inf)))
