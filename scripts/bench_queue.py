"""How many does a server's queue refuse without need, and how many promises does it break?

    python -m scripts.bench_queue
    python -m scripts.bench_queue --only flat,stall --seeds 5

The scheduler is the real one; time is not. Requests come at random times, and a run takes what the
case says, so that a minute takes a second and every figure comes again. ``late`` are right answers
after the deadline, ``504`` those that were dropped because of it.
"""

import argparse
import asyncio
import random
import selectors
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from edgeport.commands.terminal import table
from edgeport.runtimes import Signature, TensorSpec
from edgeport.runtimes.errors import OverloadedError
from edgeport.runtimes.inputs import InputCheck
from edgeport.runtimes.null import NullSession
from edgeport.runtimes.serve import scheduler as real
from edgeport.runtimes.serve.batch_queue import Batch
from edgeport.runtimes.serve.counters import Board
from edgeport.runtimes.serve.model import Model
from edgeport.runtimes.serve.requests import InferRequest, InferResponse
from edgeport.runtimes.serve.scheduler import Scheduler
from edgeport.runtimes.serve.work import Bounds, Result

SIGNATURE: Final = Signature(
    (TensorSpec("x", "float32", ("n",)),), (TensorSpec("y", "float32", ("n",)),)
)


@dataclass(frozen=True, slots=True)
class Case:
    """A model and what is asked of it.

    Attributes:
        run_s: How long a run of so many rows takes, that begins then.
        per_s: Requests of one row.
        seconds: For so long.
        deadline_s: How long one may wait.
        most_rows: That may run together.
        spread: Mean of what a run takes longer, as a share.
    """

    run_s: Callable[[int, float, random.Random], float]
    per_s: float
    seconds: float = 10.0
    deadline_s: float = 1.0
    most_rows: int = 128
    spread: float = 0.1


CASES: Final[Mapping[str, Case]] = {
    "flat": Case(lambda n, t, r: 0.02, 1000, 3, 0.1),
    "flat, 3 times as many": Case(lambda n, t, r: 0.02, 3000, 3, 0.1),
    "flat, 200 ms": Case(lambda n, t, r: 0.2, 100),
    "10 ms and 0.1 a row": Case(lambda n, t, r: 0.01 + 1e-4 * n, 1000, 3, 0.1),
    "every tenth run slow": Case(
        lambda n, t, r: 0.02 if r.random() < 0.1 else 0.001, 250, 12, 0.1, most_rows=1, spread=0
    ),
    "stall of 50 ms": Case(lambda n, t, r: 0.05 if 1 < t < 1.05 else 5e-5, 2000, 3),
    "overload": Case(lambda n, t, r: 0.02 * n, 200, 20),
    "overload, 50 ms fixed": Case(lambda n, t, r: 0.05 + 0.02 * n, 100, 20),
    "overload, noisy": Case(lambda n, t, r: 0.02 * n, 200, 20, spread=0.3),
    "overload, no batches": Case(lambda n, t, r: 0.02 * n, 200, 20, most_rows=1),
    "overload, then half as fast": Case(lambda n, t, r: (0.01, 0.02)[t > 5] * n, 400, spread=0),
    "overload, then twice as fast": Case(lambda n, t, r: (0.02, 0.01)[t > 5] * n, 400, spread=0),
}


@dataclass(slots=True)
class Outcome:
    """What came of a case."""

    shed: int = 0
    dropped: int = 0
    late: int = 0
    rows: list[int] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """All requests."""
        return self.shed + self.dropped + len(self.waits_s)


class Clock(selectors.SelectSelector):
    """Waits by setting the time forward."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Nothing ever comes but the time."""
        self.now_s += max(timeout or 0.0, 0.0)
        return super().select(0)

    def now_ns(self) -> int:
        """As ``time.monotonic_ns``."""
        return round(self.now_s * 1e9)


class Loop(asyncio.SelectorEventLoop):
    """An event loop of such a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._clock = clock

    def time(self) -> float:
        """What its timers go by."""
        return self._clock.now_s


class Timed(Scheduler):
    """A scheduler whose runs take what they are said to take."""

    clock: Clock
    run_s: Callable[[int], float]

    def _compute(self, batch: Batch) -> tuple[list[Result], int, int]:
        start_ns = self.clock.now_ns()
        self.clock.now_s += self.run_s(batch.rows)
        return self._results(batch), start_ns, self.clock.now_ns()

    def _run_in_thread(self, batch: Batch) -> None:
        start_ns, run_s = self.clock.now_ns(), self.run_s(batch.rows)
        end_ns = start_ns + round(run_s * 1e9)
        self._loop.call_later(run_s, self._back, batch, (self._results(batch), start_ns, end_ns))


def simulate(case: Case, seed: int = 0) -> Outcome:
    """Ask, and see what comes of it."""
    clock = Clock()
    with (
        patch.object(real, "time", SimpleNamespace(monotonic_ns=clock.now_ns)),
        asyncio.Runner(loop_factory=lambda: Loop(clock)) as runner,
    ):
        return runner.run(_ask(case, clock, random.Random(seed)))


async def _ask(case: Case, clock: Clock, draw: random.Random) -> Outcome:
    outcome = Outcome()

    def run_s(rows: int) -> float:
        outcome.rows.append(rows)
        return case.run_s(rows, clock.now_s, draw) * (1 + draw.expovariate(1) * case.spread)

    scheduler = Timed(_model(case), Board().counters(0, 0), Bounds(deadline_s=case.deadline_s))
    scheduler.clock, scheduler.run_s = clock, run_s
    due_s = 0.0
    while due_s < case.seconds:
        due_s += draw.expovariate(case.per_s)
        await asyncio.sleep(max(due_s - clock.now_s, 0))

        def done(result: Result, due_s: float = due_s) -> None:
            if isinstance(result, InferResponse):
                outcome.waits_s.append(clock.now_s - due_s)
                outcome.late += clock.now_s - due_s > case.deadline_s
            else:
                outcome.dropped += 1

        try:
            scheduler.refuse_overload()
            scheduler.submit(InferRequest("m", {"x": np.ones(1, np.float32)}), done)
        except OverloadedError:
            outcome.shed += 1
    while not scheduler.idle:
        await asyncio.sleep(0.1)
    return outcome


def _model(case: Case) -> Model:
    sizes = (1, 32) if case.most_rows > 1 else (1,)
    first_runs = tuple((4 * rows, case.run_s(rows, 0, random.Random(0))) for rows in sizes)
    return Model(
        name="m", version="1", format="null", session=NullSession(SIGNATURE, 1), labels={},
        most_rows=case.most_rows, first_runs=first_runs, inputs=("x",), outputs=("y",),
        check=InputCheck(SIGNATURE), raw=frozenset(),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose names begin with one of these")
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    args = parser.parse_args()
    names = [name for name in CASES if name.startswith(tuple(args.only.split(",")))]
    head = ["case", "asked", "shed", "504", "late", "p50, ms", "p99, ms", "rows a run"]
    rows = [_row(name, [simulate(CASES[name], seed) for seed in range(args.seeds)])
            for name in names]  # fmt: skip
    print(table(head, rows))
    return 0


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    counts = [
        sum(column) for column in zip(*[(o.asked, o.shed, o.dropped, o.late) for o in outcomes],
                                      strict=True)
    ]  # fmt: skip
    waits_ms = np.concatenate([o.waits_s for o in outcomes]) * 1e3
    p50_ms, p99_ms = np.percentile(waits_ms, (50, 99))
    mean_rows = np.concatenate([o.rows for o in outcomes]).mean()
    figures = [f"{count:,}" for count in counts]
    return [name, *figures, f"{p50_ms:.1f}", f"{p99_ms:.1f}", f"{mean_rows:.1f}"]


if __name__ == "__main__":
    raise SystemExit(main())
