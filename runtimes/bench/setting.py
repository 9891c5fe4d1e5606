"""Ways to run a model, and of what kind of traffic: what a benchmark compares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.session import Options

from .arrivals import Arrivals
from .workload import Workload


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to open a bundle. Each has processes of its own.

    Attributes:
        bundle: Its path.
        backend: Which engine.
        threads: As in ``Options``.
        spinning: Whether the engine's idle threads look for work in a busy loop.
        engine_only: Whether the engine's own call is timed, without the session around it.
        device: As in ``Options``.
        gpu: As in ``Options``.
        twin: A second set of processes of a setting, to see how far equals differ.
    """

    bundle: Path
    backend: str
    threads: int | None = None
    spinning: bool = True
    engine_only: bool = False
    twin: bool = False
    device: str | None = None
    gpu: GpuOptions = field(default_factory=GpuOptions)

    @property
    def options(self) -> Options:
        """What a session is asked for."""
        return Options(
            threads=self.threads, spinning=self.spinning, device=self.device, gpu=self.gpu
        )


@dataclass(frozen=True, slots=True)
class Variant:
    """A setting on a workload, and what sets it apart from the others, for people."""

    setting: Setting
    workload: Workload
    label: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The next call begins when the last one has ended."""

    def __str__(self) -> str:
        return "closed loop"


@dataclass(frozen=True, slots=True)
class Paced:
    """A closed loop that rests between calls."""

    think_ns: int

    def __str__(self) -> str:
        return f"closed loop, {self.think_ns / 1e6:g} ms between calls"


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests arrive by a schedule, whether or not the last one is answered."""

    arrivals: Arrivals
    rate_hz: float

    def __str__(self) -> str:
        return f"open loop, {self.arrivals} arrivals at {self.rate_hz:g}/s"


@dataclass(frozen=True, slots=True)
class Peak:
    """The highest rate of Poisson arrivals at which a percentile keeps a bound."""

    bound_ns: int
    percent: float = 99

    def __str__(self) -> str:
        return f"highest Poisson rate with p{self.percent:g} within {self.bound_ns / 1e6:g} ms"


@dataclass(frozen=True, slots=True)
class Cold:
    """Nothing but the start: fresh processes, one at a time, and their first five calls."""

    def __str__(self) -> str:
        return "cold start"


Mode: TypeAlias = Closed | Paced | OpenLoop | Peak | Cold
