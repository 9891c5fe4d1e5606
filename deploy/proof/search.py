"""Look for the inputs on which a backend is worst: hill climbing from the samples there are.

It stays where the samples are: floats between the smallest and the largest value of their input,
integers among those that were seen. What it raises is the error in units of the usual floor: the
median over the samples where that is larger than a candidate's own, or it would only find inputs
on which eager is right by luck. Of an artefact in a narrower precision it lowers the signal over
noise, and the usual signal counts where that is larger. The steps are the same each time; the clock
decides how many are taken.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from edgeport.deploy.diagnosis.rules import FORKED
from edgeport.deploy.sources.samples import Sample
from edgeport.runtimes import EdgeportError, Session
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.figures import Figures
from edgeport.runtimes.text import ended, is_text

from .reference import Reference

MOST_STARTS: Final = 4
"""Samples to start from: the smallest, on which more steps can be taken."""

PATIENCE: Final = 40
"""Steps without a gain before another start is tried."""

_FRACTIONS: Final = (0.0, 0.02, 0.2, 1.0)
"""Shares of the elements that one step changes; 0 for a single one."""

_USUAL: Final = ("floor_rms", "floor_max", "signal_rms")
"""Figures of a sample that are raised to those of the samples there were, in the median."""

_STEPS: Final = (0.003, 0.03, 0.3)
"""Sizes of a step, in standard deviations of the input."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search on one backend found.

    Attributes:
        usual: The worst figure on the samples there were: the largest in usual floors, or the
            smallest in dB.
        worst: The worst that was found.
        steps: Inputs that were tried.
        left_out: Inputs beside them on which it cannot be judged.
        sample: Where it was found; ``None`` if no step was worse than the samples.
        unit: Of the figures; ``dB`` of signal over noise where the artefact is narrower.
    """

    backend: str
    usual: float
    worst: float
    steps: int
    sample: Golden | None
    unit: Literal["floors", "dB"] = "floors"
    left_out: int = 0


def search(
    backend: str,
    session: Session,
    reference: Reference,
    golden: Sequence[Golden],
    *,
    time_s: float,
    narrower: bool = False,
    judged: Callable[[Mapping[str, Array]], bool] | None = None,
) -> Searched:
    """Climb until the time is over, or a fault is found that no number can express.

    Args:
        backend: Its name.
        session: Opened with it.
        reference: Answers what the module answers.
        golden: The samples, answered; edge cases are not looked at.
        time_s: Wall time.
        narrower: Whether it computes in less than the module.
        judged: Whether it can be judged on inputs; ``None`` if on all.
    """
    deadline = time.monotonic() + time_s
    usual = [g for g in golden if g.kind in ("real", "random")]
    climb = _Climb(session, reference, usual, narrower, judged)
    while time.monotonic() < deadline and climb.worst < math.inf:
        climb.step()
    name = f"search, {backend}"
    found = climb.found and Golden(
        name, "search", climb.found.inputs, climb.found.eager, climb.found.oracle, climb.found.gap
    )
    if narrower:
        return Searched(
            backend, -climb.usual, -climb.worst, climb.steps, found, "dB", climb.left_out
        )
    return Searched(backend, climb.usual, climb.worst, climb.steps, found)


class _Climb:
    """One search: what is known, and where it stands."""

    def __init__(
        self,
        session: Session,
        reference: Reference,
        golden: Sequence[Golden],
        narrower: bool,
        judged: Callable[[Mapping[str, Array]], bool] | None = None,
    ) -> None:
        self._session = session
        self._reference = reference
        self._narrower = narrower
        self._judged = judged
        self._generator = np.random.default_rng(0)
        self._texts = [s.name for s in reference.source.signature.inputs if is_text(s)]
        self._pool = {
            name: np.concatenate([g.inputs[name].reshape(-1) for g in golden])
            for name in golden[0].inputs
        }
        figures = [self._figures(each) for each in golden]
        self._usual = {
            name: tuple(
                float(np.median([getattr(f[name], figure) for f in figures])) for figure in _USUAL
            )
            for name in golden[0].eager
        }
        self._starts = sorted(golden, key=_elements)[:MOST_STARTS]
        self.usual = self.worst = max(map(self._height, figures))
        self.steps = self.left_out = 0
        self.found: Golden | None = None
        self._start = -1
        self._stuck = 0
        self._at = 0.0
        self._here = self._starts[0]
        self._restart()

    def step(self) -> None:
        """Try one neighbour; keep it if it is worse."""
        inputs = _neighbour(self._here.inputs, self._pool, self._generator)
        inputs |= {name: ended(inputs[name]) for name in self._texts}
        if self._judged is None or self._judged(inputs):
            self.steps += 1
            self._try(inputs)
        else:
            self.left_out += 1
            self._stuck += 1
        if self._stuck >= PATIENCE:
            self._restart()

    def _try(self, inputs: Mapping[str, Array]) -> None:
        try:
            there = self._reference.answer(Sample("search", "search", inputs))
        except Exception as e:  # the module rejects it: nothing has to agree with an error
            if FORKED in str(e):  # nobody asked it
                raise
            self._stuck += 1
        else:
            self._move(there)

    def _move(self, there: Golden) -> None:
        height = self._height(self._figures(there))
        self._stuck += 1
        if height > self._at:
            self._here, self._at, self._stuck = there, height, 0
        if height > self.worst:
            self.worst, self.found = height, there

    def _restart(self) -> None:
        self._start += 1
        self._here = self._starts[self._start % len(self._starts)]
        self._at = self._height(self._figures(self._here))
        self._stuck = 0

    def _figures(self, sample: Golden) -> dict[str, Figures]:
        try:
            answer = self._session.run(sample.inputs)
        except EdgeportError as e:  # the module took it
            broken = Figures("oracle", mismatch=e.problem, error_rms=math.inf, error_max=math.inf)
            return dict.fromkeys(sample.eager, broken)
        return {name: sample.measure(name, answer[name]) for name in sample.eager}

    def _height(self, figures: Mapping[str, Figures]) -> float:
        return max(self._of_output(name, found) for name, found in figures.items())

    def _of_output(self, name: str, found: Figures) -> float:
        if found.mismatch:
            return math.inf
        if (
            found.rule == "exact"
        ):  # near a tie, an argmax may go either way: no fault of a backend's
            return -math.inf if self._narrower else 0.0
        rms, peak, signal = self._usual[name]
        found = replace(
            found,
            floor_rms=max(found.floor_rms, rms),
            floor_max=max(found.floor_max, peak),
            signal_rms=max(found.signal_rms, signal),
        )
        return -found.snr_db if self._narrower else found.ratio


def _elements(sample: Golden) -> int:
    return sum(array.size for array in sample.inputs.values())


def _neighbour(
    inputs: Mapping[str, Array], pool: Mapping[str, Array], generator: np.random.Generator
) -> dict[str, Array]:
    """Change one input, or all, at some places."""
    names = list(inputs)
    chosen = names if generator.random() < 0.5 else [names[generator.integers(len(names))]]
    return {
        name: _changed(array, pool[name], generator) if name in chosen and array.size else array
        for name, array in inputs.items()
    }


def _changed(array: Array, pool: Array, generator: np.random.Generator) -> Array:
    fraction = generator.choice(_FRACTIONS)
    places = generator.random(array.shape) < fraction
    places.reshape(-1)[generator.integers(array.size)] = True
    new = next(_proposals(array, pool, generator))
    changed: Array = np.where(places, new, array).astype(array.dtype)
    return changed


def _proposals(array: Array, pool: Array, generator: np.random.Generator) -> Iterator[Array]:
    """New values for all places: other values of the samples, or a step from where it is."""
    if array.dtype.kind != "f" or generator.random() < 0.3:
        yield generator.choice(pool, array.shape)
        return
    finite = pool[np.isfinite(pool)].astype(np.float64)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if generator.random() < 0.3:
        factor = generator.uniform(0.2, 1.5)
        yield np.clip(array.astype(np.float64) * factor, low, high)
        return
    size = generator.choice(_STEPS) * (float(finite.std()) if finite.size else 0.0)
    step = size * generator.standard_normal(array.shape)
    yield np.clip(array.astype(np.float64) + step, low, high)
