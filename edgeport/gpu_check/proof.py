"""Does a backend on a device compute what the module computes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from edgeport.runtimes import Bundle, verify
from edgeport.runtimes.errors import BackendMissingError, EngineError, ParityError
from edgeport.runtimes.formats.records import to_json

from .child import Figures
from .tasks import Place


def prove(place: Place) -> Figures:
    """Judge the golden samples by the parity rule.

    Returns:
        The engine, how many samples, how many comparisons, the worst ratio with its output and
        sample (``None`` where nothing is judged by one), the precision of a narrower file and
        its least signal over noise, and what came of running one sample again and again, which is
        done on a GPU.

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
    ratio = worst.figures.ratio
    floats = [v for v in report.verdicts if v.figures.rule != "exact"]
    usual = [v.figures.snr_db for v in floats if v.kind != "edge"]
    signal_db = min(usual, default=np.inf)
    return {
        "engine": None if report.engine is None else asdict(report.engine),
        "comparisons": len(report.verdicts),
        "samples": len({v.sample for v in report.verdicts}),
        "ratio": ratio if report.reduced is None and np.isfinite(ratio) else None,
        "reduced": report.reduced,
        "snr_db": None if np.isinf(signal_db) else signal_db,
        "repeats": None if report.repeats is None else to_json(report.repeats),
        "worst": f"{worst.output} of {worst.sample!r}",
    }


def _what_failed(reason: str | None, failures: Sequence[str]) -> str:
    shown = "; ".join(failures[:3])
    return f"{reason or 'it failed'}{': ' if shown else ''}{shown}"
