"""How the time is shared between the stages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from edgeport.runtimes.errors import UsageError

from .rows import Stage

FEWEST_MINUTES: Final = 0.1
MOST_MINUTES: Final = 24 * 60.0

SOAK_SHARE: Final = 0.3
SOAK_S: Final = 600.0
"""At most: from 34 minutes on, what more there is goes to the proofs and the benchmarks."""

ENGINE_SHARE: Final = 0.5
"""Of what the soak and the benchmarks leave; engines are built in half of it at most."""

COMMAND_SHARE: Final = 0.2
"""Of the same: the proofs have to end before."""

BENCHMARK_SHARE: Final = 0.3
"""Of what the soak leaves."""

GRACE_S: Final = 60.0
"""After the whole time, for what is under way; then it is cut off."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A stage may begin a step as long as its time is not over.

    Attributes:
        minutes: For everything.
        clock: In seconds; the one of ``time.monotonic``, except in a test.
        began_s: On that clock.
    """

    minutes: float
    clock: Callable[[], float] = time.monotonic
    began_s: float = 0.0

    @classmethod
    def start(cls, minutes: float, clock: Callable[[], float] = time.monotonic) -> Budget:
        """Begin now.

        Raises:
            UsageError: ``minutes`` is no sensible time.
        """
        if not FEWEST_MINUTES <= minutes <= MOST_MINUTES:
            raise UsageError(
                f"--minutes is {minutes:g}",
                remedy=f"give a time from {FEWEST_MINUTES:g} to {MOST_MINUTES:g}",
            )
        return cls(minutes, clock, clock())

    @property
    def soak_s(self) -> float:
        """How long the soak takes."""
        return min(SOAK_S, SOAK_SHARE * self.minutes * 60)

    @property
    def benchmark_s(self) -> float:
        """How long all benchmarks together take."""
        return BENCHMARK_SHARE * (self.minutes * 60 - self.soak_s)

    def left_s(self, stage: Stage) -> float:
        """How much time a stage has left, what follows it spared; zero or less if it is over."""
        whole_s = self.minutes * 60
        proofs_s = whole_s - self.soak_s - self.benchmark_s
        until_s = {
            "engine": ENGINE_SHARE * proofs_s, "parity": (1 - COMMAND_SHARE) * proofs_s,
            "command": proofs_s, "benchmark": whole_s - self.soak_s, "soak": whole_s,
        }  # fmt: skip
        return self.began_s + until_s[stage] - self.clock()

    def limit_s(self, most_s: float) -> float:
        """How long a step may take, so that everything ends a minute after the time is over."""
        return min(most_s, max(0.0, self.left_s("soak")) + GRACE_S)
