"""Which values of an artefact are values of the module, judged by the parity rule.

No name is needed: two values are one if they have as many elements and agree within the noise
that the module itself has at that place. A value that changes nowhere says nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity import FEW_ELEMENTS, Figures, measure

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
        self._own = [_own_figures(value) for value in module.values]
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
        return self._pooled(value, figures)

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

    def _pooled(self, value: Value, figures: Figures) -> Figures:
        """An rms over few elements is uncertain: they get at least the noise of the others."""
        if figures.rule == "exact" or not 0 < figures.elements < FEW_ELEMENTS:
            return figures
        truth = value.kept if value.oracle is None else value.oracle
        scale = np.abs(truth[np.isfinite(truth)], dtype=np.float64)
        rms = self._noise_rms * float(np.sqrt(np.mean(np.square(scale))))
        peak = self._noise_max * float(scale.max())
        return replace(
            figures,
            floor_rms=max(figures.floor_rms, rms),
            floor_max=max(figures.floor_max, peak),
        )

    def _grouped(self) -> dict[tuple[bool, int], "_Group"]:
        groups: dict[tuple[bool, int], list[int]] = {}
        for value in self.module.values:
            if value.kept.size:
                groups.setdefault((value.floats, value.size), []).append(value.number)
        return {key: self._group(numbers) for key, numbers in groups.items()}

    def _group(self, numbers: Sequence[int]) -> "_Group":
        values = [self.module.values[number] for number in numbers]
        truth = np.stack([_signature(v.kept if v.oracle is None else v.oracle) for v in values])
        slack = [
            self.max_ratio * self._pooled(value, self._own[value.number]).floor_max
            for value in values
        ]
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


def _own_figures(value: Value) -> Figures:
    """What eager's own noise is at a value."""
    return measure(value.kept, value.kept, value.oracle)


def _usual_noise(values: Sequence[Value], own: Sequence[Figures]) -> tuple[float, float]:
    """The median noise of computed values, relative to their scale: of rms and maximum."""
    found = [
        (figures.floor_rms / rms, figures.floor_max / peak, figures.elements >= FEW_ELEMENTS)
        for value, figures in zip(values, own, strict=True)
        if value.varies and value.operator and figures.rule == "oracle"
        for rms, peak in [_scale(value.kept)]
        if rms
    ]
    many = [each for each in found if each[2]] or found
    if not many:
        return 0.0, 0.0
    return float(np.median([m[0] for m in many])), float(np.median([m[1] for m in many]))


def _scale(flat: Array) -> tuple[float, float]:
    finite = np.abs(flat[np.isfinite(flat)].astype(np.float64))
    if not finite.size:
        return 0.0, 0.0
    return float(np.sqrt(np.mean(np.square(finite)))), float(finite.max())
