"""What a benchmark found: figures, conditions and every raw duration, as a value and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from edgeport.runtimes.session import EngineInfo

from .environment import Environment
from .statistics import Interval, Percentile

BENCH_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class BackendLatency:
    """The latency of one backend.

    Attributes:
        file: The artefact that it opened, in the bundle.
        engine: What was really in use.
        percentiles: 50, 90 and 99; one that has too few calls has no value.
        times_fastest: How many times slower than the fastest backend, round by round; ``None``
            if a median is withheld.
        warmup_ns: The first calls; not counted.
        rounds_ns: Every counted call, by round. Row i of all backends was measured together.
    """

    backend: str
    file: str
    sha256: str
    engine: EngineInfo
    percentiles: tuple[Percentile, ...]
    times_fastest: Interval | None
    warmup_ns: tuple[int, ...]
    rounds_ns: tuple[tuple[int, ...], ...]

    @property
    def calls(self) -> int:
        """How many calls were counted."""
        return sum(map(len, self.rounds_ns))

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return {
            "backend": self.backend,
            "file": self.file,
            "sha256": self.sha256,
            "engine": asdict(self.engine),
            "calls": self.calls,
            "percentiles": [asdict(percentile) for percentile in self.percentiles],
            "times_fastest": None if self.times_fastest is None else asdict(self.times_fastest),
            "warmup_ns": list(self.warmup_ns),
            "rounds_ns": [list(durations) for durations in self.rounds_ns],
        }


@dataclass(frozen=True, slots=True)
class Unusable:
    """A backend that fits the bundle and cannot be used here."""

    backend: str
    reason: str | None
    remedy: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """A benchmark of a bundle.

    Attributes:
        name: The model's.
        sample: The golden sample whose inputs were timed.
        batch: How many rows they were given; ``None`` if the model has no batch dimension.
        shapes: Of the inputs, by name.
        seed: Of the order within rounds and of the intervals.
        budget_s: What was asked; ``elapsed_s`` is what the rounds took.
    """

    name: str
    sample: str
    batch: int | None
    shapes: Mapping[str, tuple[int, ...]]
    seed: int
    budget_s: float
    elapsed_s: float
    environment: Environment
    backends: tuple[BackendLatency, ...]
    unusable: tuple[Unusable, ...]

    @property
    def rounds(self) -> int:
        """How many rounds were measured."""
        return len(self.backends[0].rounds_ns)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``; the schema is versioned."""
        return {
            "bench_version": BENCH_VERSION,
            "name": self.name,
            "sample": self.sample,
            "batch": self.batch,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "seed": self.seed,
            "budget_s": self.budget_s,
            "elapsed_s": self.elapsed_s,
            "rounds": self.rounds,
            "environment": asdict(self.environment),
            "backends": [backend.to_json() for backend in self.backends],
            "unusable": [asdict(unusable) for unusable in self.unusable],
        }
