"""The four scenarios of MLPerf Inference, by name.

They follow the definitions of its rules (https://github.com/mlcommons/inference_policies), not
their minimal durations and query counts: a figure is no submission.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgeport.runtimes.errors import UsageError

from .setting import Closed, Mode, Peak

SCENARIOS: Final = ("single-stream", "multi-stream", "server", "offline")

STREAMS: Final = 8
"""Samples of one multi-stream query."""
OFFLINE_ROWS: Final = 32
"""Rows of a call of the offline scenario, unless others are asked for."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a scenario stands for here.

    Attributes:
        mode: How calls follow one another.
        batch: Rows of one call; ``None`` to leave it to the caller.
    """

    mode: Mode
    batch: int | None


def scenario(name: str, bound_ns: int | None) -> Scenario:
    """Look a scenario up.

    - single-stream: one sample after the other; the 90th percentile counts.
    - multi-stream: eight samples in a query, one query after the other; the 99th counts.
    - server: Poisson arrivals; the highest rate counts that keeps the 99th within a bound.
    - offline: all samples are there at once; the samples per second count.

    Args:
        name: One of ``SCENARIOS``.
        bound_ns: Of a latency, for the server scenario.

    Raises:
        UsageError: The server scenario has no bound.
    """
    match name:
        case "single-stream":
            return Scenario(Closed(), 1)
        case "multi-stream":
            return Scenario(Closed(), STREAMS)
        case "offline":
            return Scenario(Closed(), None)
        case _:
            return Scenario(peak(name, bound_ns), None)


def peak(name: str, bound_ns: int | None) -> Peak:
    """The mode of that name, which seeks the highest rate.

    Raises:
        UsageError: It has no bound.
    """
    if bound_ns is None:
        raise UsageError(
            f"--mode {name} seeks the highest rate within a bound, and none was given",
            remedy="give --slo-ms, the latency that requests may have",
        )
    return Peak(bound_ns)
