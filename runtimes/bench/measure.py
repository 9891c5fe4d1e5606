"""Time several callables fairly: one warm-up, then rounds of all of them in random order.

The rounds are spread over the whole time budget, with pauses if the calls are quick, so that
they see the machine drift; all backends meet every state of it.
"""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeport.runtimes.inputs import Array

Run: TypeAlias = Callable[[Mapping[str, Array]], object]

WARMUP_SHARE: Final = 0.1
"""Of the time budget, after the cold calls."""
COLD_CALLS: Final = 3
"""A first call can take thousands of times the steady one; TorchScript optimises in its second."""

MOST_ROUNDS: Final = 40
FEWEST_ROUNDS: Final = 10
"""Planned. A run that is over its budget ends earlier, but never before ``SURE_ROUNDS``."""
SURE_ROUNDS: Final = 2
MOST_CALLS: Final = 500
"""Per round. 40 x 500 raw samples support p99 amply and are about 150 kB of JSON."""
WANTED_CALLS: Final = 5
"""Per round, before a slow backend is given more rounds."""

SETTLE_NS: Final = 2_000_000
"""Uncounted calls that begin a round. After another engine ran, the first call takes 3 to 17
times the steady one and the tenth is within 6 % (a small CNN, three engines)."""

_clock = time.perf_counter_ns


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single truth value
class Measurement:
    """Raw durations.

    Attributes:
        warmup_ns: By name, the first calls, in order; not counted anywhere.
        rounds_ns: By name, ``(rounds, calls)``: row i of every name was measured together.
        elapsed_s: From the first round to the last.
    """

    warmup_ns: Mapping[str, NDArray[np.int64]]
    rounds_ns: Mapping[str, NDArray[np.int64]]
    elapsed_s: float


def measure(
    runs: Mapping[str, Run],
    inputs: Mapping[str, Array],
    *,
    budget_s: float,
    seed: int = 0,
    on_round: Callable[[int, int], None] | None = None,
) -> Measurement:
    """Time every callable on the same inputs.

    Args:
        runs: By name: the ``run`` of a session, or anything that takes its inputs.
        inputs: What each is called with.
        budget_s: About how long the whole takes. Two rounds are measured whatever it is, and no
            round is cut short: dropping the calls of a stalled one would flatter it.
        seed: Of the order within the rounds.
        on_round: Called before the first round and after each, with the number done and planned.
    """
    budget_ns = int(budget_s * 1e9)
    share_ns = int(WARMUP_SHARE * budget_ns / len(runs))
    warmup = {name: _warm_up(run, inputs, share_ns) for name, run in runs.items()}
    steady = {name: max(1.0, float(np.median(w[COLD_CALLS:]))) for name, w in warmup.items()}
    spread_ns = int((1 - WARMUP_SHARE) * budget_ns)
    rounds, calls = plan(steady, spread_ns)
    durations = {name: np.empty((rounds, calls[name]), np.int64) for name in runs}
    names, order = list(runs), np.random.default_rng(seed)
    if on_round is not None:
        on_round(0, rounds)
    start = _clock()
    for done in range(1, rounds + 1):
        _sleep_until(start + (done - 1) * spread_ns // rounds)
        for position in order.permutation(len(names)):
            name = names[position]
            _settle(runs[name], inputs)
            _time(runs[name], inputs, durations[name][done - 1])
        if on_round is not None:
            on_round(done, rounds)
        if done >= SURE_ROUNDS and _clock() - start > spread_ns:
            durations = {name: array[:done] for name, array in durations.items()}
            break
    return Measurement(warmup, durations, (_clock() - start) / 1e9)


def plan(latency_ns: Mapping[str, float], budget_ns: int) -> tuple[int, dict[str, int]]:
    """Divide a budget into rounds, and each round into calls, alike in time for every name.

    Returns:
        The number of rounds, and by name the number of calls in each.
    """
    settle_ns = {name: max(SETTLE_NS, latency) for name, latency in latency_ns.items()}
    short_round_ns = sum(settle_ns[n] + WANTED_CALLS * ns for n, ns in latency_ns.items())
    rounds = min(max(int(budget_ns / short_round_ns), FEWEST_ROUNDS), MOST_ROUNDS)
    slice_ns = budget_ns / rounds / len(latency_ns)
    return rounds, {
        name: min(max(int((slice_ns - settle_ns[name]) / latency), 1), MOST_CALLS)
        for name, latency in latency_ns.items()
    }


def _warm_up(run: Run, inputs: Mapping[str, Array], share_ns: int) -> NDArray[np.int64]:
    cold = np.empty(COLD_CALLS, np.int64)
    _time(run, inputs, cold)
    steady: list[int] = []
    end = _clock() + share_ns
    while not steady or (_clock() < end and len(steady) < MOST_CALLS):
        start = _clock()
        run(inputs)
        steady.append(_clock() - start)
    return np.concatenate([cold, steady])


def _sleep_until(moment_ns: int) -> None:
    time.sleep(max(0, moment_ns - _clock()) / 1e9)


def _settle(run: Run, inputs: Mapping[str, Array]) -> None:
    end = _clock() + SETTLE_NS
    run(inputs)
    while _clock() < end:
        run(inputs)


def _time(run: Run, inputs: Mapping[str, Array], durations_ns: NDArray[np.int64]) -> None:
    collecting = gc.isenabled()
    gc.disable()  # a collection belongs to the harness, not to the call that it would interrupt
    try:
        for index in range(len(durations_ns)):
            start = _clock()
            run(inputs)
            durations_ns[index] = _clock() - start
    finally:
        if collecting:
            gc.enable()
