"""The same samples over and over: does memory grow, does an answer change, does anything fail?

A look at memory and GPU is taken once a second, between calls.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgeport.runtimes import Bundle, Session
from edgeport.runtimes.bench.gpu import Gauge
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.errors import EdgeportError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.rule import Verdict
from edgeport.runtimes.parity.thresholds import Precision, Thresholds
from edgeport.runtimes.parity.verification import check_session

from .child import Figures
from .growth import Growth, growth
from .tasks import Place

LOOK_S: Final = 1.0
MOST_ERRORS: Final = 10
"""Then the soak ends: whatever it is, more of it tells nothing."""

_STATUS: Final = Path("/proc/self/status")


def soak(place: Place, seconds: float, tell: Callable[[Figures], None]) -> Figures:
    """Open an artefact and soak its session: see ``soak_session``.

    Raises:
        EdgeportError: The artefact cannot be opened, or the first call fails.
    """
    bundle = Bundle.read(place.bundle)
    samples = [sample for sample in bundle.golden() if sample.kind != "search"]
    reduced = bundle.manifest.reduced_precision(bundle.artefact(place.backend))
    with bundle.open(place.backend, replace(place.options, threads=1)) as session:
        return soak_session(session, samples, bundle.manifest.thresholds, reduced, seconds, tell)


def soak_session(
    session: Session,
    samples: Sequence[Golden],
    thresholds: Thresholds,
    reduced: Precision | None,
    seconds: float,
    tell: Callable[[Figures], None],
) -> Figures:
    """Run samples in turn for a time.

    Args:
        session: What to run.
        samples: With the answers that are expected.
        thresholds: Where a verdict turns.
        reduced: The artefact's precision, where it is narrower than the module's.
        seconds: How long.
        tell: Told of every look: seconds since the start, calls, errors, changed answers, bytes of
            the process, bytes of the GPU, and the GPU's state.

    Returns:
        Calls, changed answers, how memory grew, and the ``problem`` with its ``remedy``: a call
        failed, an answer that changed fails the parity rule, or memory grows; ``None`` if all is
        well.

    Raises:
        EdgeportError: The first call fails.
    """
    run = _Run(session, samples)
    looks = run.go(seconds, tell)
    found = run.figures() | {f"{name}_growth": asdict(g) for name, g in _growths(looks).items()}
    replay: Session = _Replay(session, run.farthest)
    verdicts = check_session(replay, samples, thresholds, reduced)
    problem, remedy = _problem(run, found, [v for v in verdicts if v.status == "fail"])
    return found | {"problem": problem, "remedy": remedy}


def _problem(
    run: _Run, found: Mapping[str, Any], failed: Sequence[Verdict]
) -> tuple[str | None, str | None]:
    """The worst that happened, and what to do about it."""
    if run.errors:
        return (
            f"{len(run.errors)} of {run.calls} calls failed: {run.errors[0]}",
            "edgeport verify tells whether the artefact works here; if it does, the machine or its "
            "driver does not bear this load",
        )
    if failed:
        first = failed[0]
        return (
            f"{run.changed} of {run.calls} answers changed, and the farthest of them fail: "
            f"{first.output} of {first.sample!r}: {first.reason}",
            "don't use this backend here; check the GPU's memory: nvidia-smi -q -d ECC",
        )
    for name in ("process", "gpu"):
        grown = found.get(f"{name}_growth")
        if grown and grown["grows"]:
            rise = (grown["last_bytes"] - grown["first_bytes"]) / 2**20
            return (
                f"memory of the {name} grew by {rise:.0f} MiB and went on growing",
                "run a longer soak to see whether it ends; report it to the engine's makers",
            )
    return None, None


class _Run:
    """What a soak counts.

    Attributes:
        farthest: Of every sample the answer that is farthest from its first one.
    """

    def __init__(self, session: Session, samples: Sequence[Golden]) -> None:
        self._session = session
        self._samples = samples
        self._gauge = Gauge(session)
        self._first: list[dict[str, Array]] = []
        self._digests: list[bytes] = []
        self._distances = [0.0] * len(samples)
        self.farthest: list[dict[str, Array]] = []
        self.calls = self.changed = 0
        self.errors: list[str] = []

    def go(self, seconds: float, tell: Callable[[Figures], None]) -> list[Figures]:
        """Call until the time is over or too much failed."""
        for sample in self._samples:
            answer = _copied(self._session.run(sample.inputs))
            self._first.append(answer)
            self._digests.append(_digest(answer))
        self.farthest = list(self._first)
        looks: list[Figures] = []
        start = time.monotonic()
        due, place = start, 0
        while (now := time.monotonic()) < start + seconds and len(self.errors) < MOST_ERRORS:
            if now >= due:
                looks.append(self._look(now - start))
                tell(looks[-1])
                due += LOOK_S * (1 + (now - due) // LOOK_S)
            self._call(place)
            place = (place + 1) % len(self._samples)
        looks.append(self._look(time.monotonic() - start))
        tell(looks[-1])
        return looks

    def figures(self) -> Figures:
        """What was counted."""
        card = self._gauge.card
        return {
            "calls": self.calls,
            "changed": self.changed,
            "samples": len(self._samples),
            "card": None if card is None else asdict(card),
        }

    def _call(self, place: int) -> None:
        self.calls += 1
        try:
            answer = self._session.run(self._samples[place].inputs)
        except EdgeportError as e:
            self.errors.append(e.problem)
            return
        if _digest(answer) == self._digests[place]:
            return
        self.changed += 1
        distance = _distance(answer, self._first[place])
        if distance >= self._distances[place]:
            self._distances[place] = distance
            self.farthest[place] = _copied(answer)

    def _look(self, at_s: float) -> Figures:
        reading = self._gauge.read()
        gpu = None if reading is None else reading.process_bytes or reading.used_bytes
        return {
            "at_s": round(at_s, 3),
            "calls": self.calls,
            "errors": len(self.errors),
            "changed": self.changed,
            "process_bytes": _resident_bytes(),
            "gpu_bytes": gpu,
            "gpu": None if reading is None else asdict(reading),
        }


class _Replay:
    """Answers that were given before, in the order of the samples, for the parity rule."""

    def __init__(self, session: Session, answers: Sequence[dict[str, Array]]) -> None:
        self.signature, self.engine = session.signature, session.engine
        self._answers: Iterator[dict[str, Array]] = iter(answers)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return next(self._answers)

    def close(self) -> None:
        pass

    def __enter__(self) -> _Replay:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _growths(looks: Sequence[Figures]) -> dict[str, Growth]:
    found = {}
    for name in ("process", "gpu"):
        known = [(look["at_s"], look[f"{name}_bytes"]) for look in looks]
        known = [(at_s, size) for at_s, size in known if size is not None]
        if known:
            found[name] = growth([at_s for at_s, _ in known], [size for _, size in known])
    return found


def _digest(outputs: Mapping[str, Array]) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for dtype, shape, data in _bits(outputs):
        found.update(f"{dtype}{shape}".encode())
        found.update(data)
    return found.digest()


def _distance(answer: Mapping[str, Array], first: Mapping[str, Array]) -> float:
    """The largest difference of a float, or infinity where the answers can't be subtracted."""
    if {n: a.shape for n, a in answer.items()} != {n: a.shape for n, a in first.items()}:
        return np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        far = [
            np.max(np.abs(answer[n].astype(np.float64) - first[n].astype(np.float64)), initial=0.0)
            for n in first
        ]
    worst = float(max(far, default=0.0))
    return worst if np.isfinite(worst) else np.inf


def _resident_bytes() -> int | None:
    """The resident set of this process; ``None`` where it isn't told."""
    try:
        found = re.search(r"^VmRSS:\s+(\d+) kB$", _STATUS.read_text("ascii"), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else int(found[1]) * 1024


def _copied(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Answers that the session cannot overwrite."""
    return {name: np.array(array) for name, array in outputs.items()}


def _bits(outputs: Mapping[str, Array]) -> tuple[tuple[str, tuple[int, ...], bytes], ...]:
    """What tells two answers apart: dtype, shape and every bit, a NaN's and a zero's sign too."""
    return tuple((a.dtype.str, a.shape, a.tobytes()) for a in outputs.values())
