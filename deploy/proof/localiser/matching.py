"""Which values of an artefact are values of the module, judged by the parity rule.

No name is needed: two values are one if they have as many elements and agree within the noise
that the module itself has at that place. A value that changes nowhere says nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.distances import rms
from edgeport.runtimes.parity.rule import (
    FALLBACK_ULPS,
    FEW_ELEMENTS,
    FLOOR_ULPS,
    Figures,
    measure,
)

from .trace import Trace, Value

_SIGNATURE: Final = 16
"""Elements that are compared before all are."""

_TELLING: Final = 8
"""Integers that may be equal by chance if they are fewer."""


@dataclass(frozen=True, slots=True)
class Match:
    """What agrees with what.

    Attributes:
        of_artefact: For each value of the artefact, the values of the module that it agrees with.
        of_module: The other way round.
        figures: Of each agreement: (module, artefact).
    """

    of_artefact: Sequence[tuple[int, ...]]
    of_module: Sequence[tuple[int, ...]]
    figures: Mapping[tuple[int, int], Figures]


class Judge:
    """Compares values of an artefact with values of the module.

    Args:
        module: The trace of the eager module, with oracle.
        max_ratio: How many noise floors apart two equal values may be.
    """

    def __init__(self, module: Trace, max_ratio: float) -> None:
        self.module = module
        self.max_ratio = max_ratio
        self._own = [_noise(value) for value in module.values]
        self._noise_rms, self._noise_max = _usual_noise(module.values, self._own)
        self._groups = self._grouped()

    def compare(self, value: Value, other: Value) -> Figures:
        """Measure a value of the artefact against one of the module, as flat lists."""
        actual = other.kept
        if value.floats and actual.dtype.kind == "f":
            actual = actual.astype(value.kept.dtype, copy=False)
        elif actual.dtype != value.kept.dtype and "f" not in (
            actual.dtype.kind,
            value.kept.dtype.kind,
        ):
            actual = actual.astype(np.int64)
            eager = value.kept.astype(np.int64)
            return measure(actual, eager, None)
        figures = measure(actual, value.kept, value.oracle)
        if figures.rule == "exact" or not 0 < figures.elements < FEW_ELEMENTS:
            return figures
        rms, peak = self._floor(value)
        return replace(
            figures,
            floor_rms=max(figures.floor_rms, rms),
            floor_max=max(figures.floor_max, peak),
        )

    def agrees(self, figures: Figures) -> bool:
        """Whether they are one value."""
        if figures.mismatch:
            return False
        if figures.rule == "exact":
            return figures.error_max == 0
        return figures.ratio <= self.max_ratio

    def match(self, artefact: Trace) -> Match:
        """Compare every value of an artefact with the module's values of its size."""
        of_artefact: list[tuple[int, ...]] = []
        of_module: list[list[int]] = [[] for _ in self.module.values]
        measured: dict[tuple[int, int], Figures] = {}
        for other in artefact.values:
            found = []
            for number in self._near(other):
                figures = self.compare(self.module.values[number], other)
                if self.agrees(figures):
                    found.append(number)
                    of_module[number].append(other.number)
                    measured[number, other.number] = figures
            of_artefact.append(tuple(found))
        return Match(of_artefact, [tuple(numbers) for numbers in of_module], measured)

    def _floor(self, value: Value) -> tuple[float, float]:
        """An rms over few elements is uncertain: they get at least the noise of the others."""
        own = self._own[value.number]
        if own.elements >= FEW_ELEMENTS:
            return own.rms, own.max
        rms, peak = self._noise_rms * own.scale_rms, self._noise_max * own.scale_max
        return max(own.rms, rms), max(own.max, peak)

    def _grouped(self) -> dict[tuple[bool, int], "_Group"]:
        groups: dict[tuple[bool, int], list[int]] = {}
        for value in self.module.values:
            if value.kept.size:
                groups.setdefault((value.floats, value.size), []).append(value.number)
        return {key: self._group(numbers) for key, numbers in groups.items()}

    def _group(self, numbers: Sequence[int]) -> "_Group":
        values = [self.module.values[number] for number in numbers]
        truth = np.stack([_signature(self._own[number].truth) for number in numbers])
        slack = [self.max_ratio * self._floor(value)[1] for value in values]
        return _Group(np.asarray(numbers), truth, np.asarray(slack)[:, None])

    def _near(self, other: Value) -> list[int]:
        group = self._groups.get((other.floats, other.size))
        if group is None or not other.kept.size:
            return []
        with np.errstate(invalid="ignore"):
            apart = np.abs(group.truth - _signature(other.kept)) > group.slack
        found: list[int] = group.numbers[~apart.any(axis=1)].tolist()
        return found


@dataclass(frozen=True, slots=True)
class _Group:
    """Values of the module that have one size."""

    numbers: Array
    truth: Array  # (values, _SIGNATURE)
    slack: Array  # (values, 1)


def telling(value: Value) -> bool:
    """Whether agreeing with this value proves that what led to it is right."""
    if value.kept.size == 0 or value.kept.dtype.kind == "b":
        return False
    if not value.floats:
        return value.kept.size >= _TELLING and bool(np.ptp(value.kept))
    finite = value.kept[np.isfinite(value.kept)]
    if finite.size == 1:
        return float(finite[0]) != round(float(finite[0]))
    return finite.size > 1 and bool(np.ptp(finite))


def _signature(flat: Array) -> Array:
    at = np.linspace(0, flat.size - 1, _SIGNATURE).astype(np.int64)
    return flat[at].astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Noise:
    """How far eager is from the truth at a value, as the parity rule has it, and its scale."""

    truth: Array
    elements: int
    known: bool
    rms: float = 0.0
    max: float = 0.0
    scale_rms: float = 0.0
    scale_max: float = 0.0


def _noise(value: Value) -> _Noise:
    """The figures of ``measure`` that matching needs, at a tenth of its price."""
    finite = np.isfinite(value.kept) if value.floats else np.zeros(0, bool)
    if not finite.any():
        return _Noise(value.kept, 0, False)
    oracle = value.oracle
    known = oracle is not None and bool(np.isfinite(oracle[finite]).all())
    truth = oracle if oracle is not None and known else value.kept.astype(np.float64)
    scale = np.abs(truth[finite])
    noise = np.abs(value.kept[finite] - truth[finite])
    least = (FLOOR_ULPS if known else FALLBACK_ULPS) * float(np.finfo(value.kept.dtype).eps)
    scale_rms, scale_max = rms(scale), float(scale.max())
    return _Noise(
        truth,
        scale.size,
        known,
        max(rms(noise), least * scale_rms),
        max(float(noise.max()), least * scale_max),
        scale_rms,
        scale_max,
    )


def _usual_noise(values: Sequence[Value], own: Sequence[_Noise]) -> tuple[float, float]:
    """The median noise of computed values, relative to their scale: of rms and maximum."""
    found = [
        noise
        for value, noise in zip(values, own, strict=True)
        if value.varies and value.operator and noise.known and noise.scale_rms
    ]
    many = [noise for noise in found if noise.elements >= FEW_ELEMENTS] or found
    if not many:
        return 0.0, 0.0
    return (
        float(np.median([noise.rms / noise.scale_rms for noise in many])),
        float(np.median([noise.max / noise.scale_max for noise in many])),
    )
