"""Does a backend on a device compute what the module computes, and the same every time?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from edgeport.runtimes import Bundle, verify
from edgeport.runtimes.errors import BackendMissingError, EngineError, ParityError, UsageError
from edgeport.runtimes.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity import measure

from .child import Figures
from .tasks import Place


def prove(place: Place) -> Figures:
    """Judge the golden samples by the parity rule.

    Returns:
        The engine, how many samples, how many comparisons, and the worst ratio with its output and
        sample; ``None`` instead of a ratio where nothing was compared by one.

    Raises:
        BackendMissingError: The backend or device is not there.
        ParityError: An output failed, or nothing was proved.
        EdgeportError: The artefact cannot be opened or run.
    """
    bundle = Bundle.read(place.bundle)
    (report,) = verify(bundle, [place.backend], device=place.device, gpu=place.options.gpu).backends
    if report.outcome == "unusable":
        raise BackendMissingError(
            report.reason or "not usable", remedy=report.remedy or "see edgeport doctor"
        )
    if report.outcome != "pass":
        kind = ParityError if report.verdicts else EngineError
        raise kind(
            _what_failed(report.reason, [f"{v.output} of {v.sample!r}: {v.reason}"
                                         for v in report.failures]),
            remedy=report.remedy or "edgeport verify tells more",
        )  # fmt: skip
    worst = max(report.verdicts, key=lambda v: v.figures.ratio)
    return {
        "engine": None if report.engine is None else asdict(report.engine),
        "comparisons": len(report.verdicts),
        "samples": len({v.sample for v in report.verdicts}),
        "ratio": worst.figures.ratio if np.isfinite(worst.figures.ratio) else None,
        "worst": f"{worst.output} of {worst.sample!r}",
    }


def _what_failed(reason: str | None, failures: Sequence[str]) -> str:
    shown = "; ".join(failures[:3])
    return f"{reason or 'it failed'}{': ' if shown else ''}{shown}"


def repeat(place: Place, times: int) -> Figures:
    """Run one usual sample several times and compare the answers bit by bit.

    Returns:
        How many runs, how many different answers, and the largest difference from the first one in
        noise floors (the largest error of eager on that sample), by output where there is any.

    Raises:
        EdgeportError: The artefact cannot be opened or run.
    """
    bundle = Bundle.read(place.bundle)
    sample = usual_sample(bundle)
    with bundle.open(place.backend, place.options) as session:
        answers = [copied(session.run(sample.inputs)) for _ in range(times)]
    first = answers[0]
    apart = {
        name: max(_apart(answer[name], first[name], sample, name) for answer in answers)
        for name in first
    }
    return {
        "runs": times,
        "answers": len({bits(answer) for answer in answers}),
        "sample": sample.name,
        "floors_apart": {name: value for name, value in apart.items() if value},
    }


def usual_sample(bundle: Bundle) -> Golden:
    """The largest golden sample of real or random values.

    Raises:
        UsageError: There is none.
    """
    usual = [sample for sample in bundle.golden() if sample.kind in ("real", "random")]
    if not usual:
        raise UsageError(
            f"{bundle.path} holds no golden sample of real or random values",
            remedy="export the model again with --samples",
        )
    return max(usual, key=lambda sample: sum(array.size for array in sample.inputs.values()))


def copied(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Answers that the session cannot overwrite."""
    return {name: np.array(array) for name, array in outputs.items()}


def bits(outputs: Mapping[str, Array]) -> tuple[tuple[str, tuple[int, ...], bytes], ...]:
    """What tells two answers apart: dtype, shape and every bit, a NaN's and a zero's sign too."""
    return tuple((a.dtype.str, a.shape, a.tobytes()) for a in outputs.values())


def _apart(answer: Array, first: Array, sample: Golden, name: str) -> float:
    if answer.dtype.kind != "f":
        return float((answer != first).sum())
    with np.errstate(invalid="ignore"):
        far = np.abs(answer.astype(np.float64) - first.astype(np.float64))
    floor = measure(first, sample.eager[name], sample.oracle.get(name)).floor_max
    return float(np.nanmax(far, initial=0.0)) / floor if floor else 0.0
