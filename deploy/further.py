"""After the proof: ask more of the artefacts that passed, in a process of its own."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from edgeport.deploy.proof.far_state import check_far
from edgeport.deploy.proof.reference import Reference
from edgeport.deploy.proof.task import Task, describe
from edgeport.deploy.proof.trial import (
    Trial,
    answered_below_zero,
    refused_below_zero,
    try_further,
)
from edgeport.deploy.proof.unusual import ASKED, answer_unusual
from edgeport.deploy.sources.samples import Sample
from edgeport.runtimes import Bundle, ExportError, ParityError
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.parity.verification import places_of_worst

from .isolation import Killed, Limits, run_isolated

_REMEDY: Final = "give more --samples, and see which format or --opset is right on them"
_REMEDY_NARROW: Final = (
    "ask for a wider --precision, give --min-signal if so little is enough, or leave "
    "--search-seconds out if inputs are never so far from the samples"
)

PATIENCE_S: Final = 3.0
PATIENCE_TIMES: Final = 20
"""How long the module may take over NaN and Inf: some seconds, and some times the example's."""


def ask_further(
    bundle: Bundle,
    reference: Reference,
    golden: Sequence[Golden],
    search_s: float,
    task: Task | None,
    limits: Limits,
    emulated: Bundle | None = None,
) -> Trial:
    """Try NaN and Inf, search for the worst inputs, score by labels; refuse what fails.

    Args:
        bundle: Proved on its golden samples, on every backend.
        reference: What the module answers.
        golden: These samples.
        search_s: Wall time for the search, over all backends.
        task: The user's labels.
        limits: What the process that asks may use.
        emulated: As for ``try_further``.

    Raises:
        SourceError: The module remembers what is far from all samples.
        ParityError: A search found inputs on which a backend is wrong, or the labels say that it
            is worse than the module.
        ExportError: The process was ended.
    """
    patient = _patient(reference, limits)
    for sample in golden[:1]:
        with contextlib.suppress(ExportError):  # torch may not be asked here
            run_isolated(partial(check_far, reference, sample), patient)
    unusual, unanswered = _unusual(reference, patient)
    work = partial(try_further, bundle, reference, golden, unusual, search_s, task, emulated)
    trial = run_isolated(work, replace(limits, time_s=limits.time_s + search_s))
    if isinstance(trial, Killed):
        raise ExportError(
            f"an artefact that had passed was run on more inputs, and {trial.problem}",
            remedy="give it more time or memory: --time-limit, --memory-limit",
        )
    indices = _below_zero(bundle, reference, patient, limits)
    trial = replace(trial, notes=(*trial.notes, *unanswered, *indices))
    worse = [score for score in trial.scores if not score.passed]
    if worse:
        raise ParityError(
            f"by the labels, worse than noise allows: {'; '.join(describe(worse))}",
            remedy="leave this format out, or make it in a wider precision",
        )
    narrow = {searched.backend for searched in trial.searched if searched.unit == "dB"}
    for backend, verdicts in (trial.verdicts or {}).items():
        for verdict in verdicts:
            if verdict.status == "fail":
                raise ParityError(
                    f"{backend}: {verdict.output}: {verdict.reason}, on inputs that were looked "
                    "for, though all samples passed",
                    remedy=_REMEDY_NARROW if backend in narrow else _REMEDY,
                )
    return trial


def _has(reference: Reference, kinds: str) -> bool:
    """Whether an input is of such a kind of dtype."""
    example = reference.source.example
    return any(array.dtype.kind in kinds and array.size for array in example.values())


def _patient(reference: Reference, limits: Limits) -> Limits:
    """For what the module may make no end of."""
    if not _has(reference, "fi"):
        return limits
    start = time.perf_counter()
    reference.answer(Sample("example", "random", reference.source.example))
    patience_s = PATIENCE_S + PATIENCE_TIMES * (time.perf_counter() - start)
    return replace(limits, time_s=min(round(patience_s, 1), limits.time_s))


def _below_zero(bundle: Bundle, reference: Reference, patient: Limits, limits: Limits) -> list[str]:
    """Sentences on the backends that do not refuse -1 where the module does, mostly as an index.

    Each is asked in a process of its own: one that native code ends, for one.
    """
    if not _has(reference, "i"):
        return []
    try:
        refused = run_isolated(partial(refused_below_zero, reference), patient)
    except ExportError:  # torch may not be asked here, which is told of NaN and Inf
        return []
    if isinstance(refused, Killed) or not refused:  # of what has no end nothing is known
        return []
    notes = []
    for backend in bundle.backends_on("cpu"):
        work = partial(answered_below_zero, bundle, backend, reference, refused)
        found = run_isolated(work, limits)
        if isinstance(found, Killed):
            notes.append(
                f"the process of {backend} does not survive -1 in {' or '.join(refused)}, which "
                f"the module refuses: {found.problem}; check for it before you run it"
            )
        elif found:
            notes.append(
                f"{backend} answers -1 in {', '.join(found)}, which the module refuses: check for "
                "it before you run it"
            )
    return notes


def _unusual(reference: Reference, limits: Limits) -> tuple[list[Golden], list[str]]:
    """Samples with NaN and Inf, and sentences on those of which the module makes no end."""
    if not _has(reference, "f"):
        return [], []
    found: list[Golden] = []
    killed: dict[str, list[str]] = {}

    def ask(*names: str) -> list[Golden] | Killed:
        return run_isolated(partial(answer_unusual, reference, names), limits)

    try:
        answers = ask(*ASKED)
        if not isinstance(answers, Killed):
            return answers, []
        ended: set[str] = set()
        for name in ASKED:  # to know which
            kind, *_ = name.split(",")
            answers = [] if kind in ended else ask(name)
            if isinstance(answers, Killed):
                killed.setdefault(answers.problem, []).append(kind)
                ended.add(kind)
            else:
                found += answers
    except ExportError as e:
        return [], [f"the module was asked nothing with NaN or Inf: {e.problem}"]
    return found, [
        f"the module does not end well on inputs with {', '.join(names)}: {problem}; and so may "
        "the artefacts: check for them before you run it"
        for problem, names in killed.items()
    ]


def with_verdicts(report: BackendReport, trial: Trial) -> BackendReport:
    """A backend's report with its verdicts on the samples that were added."""
    more = (trial.verdicts or {}).get(report.backend, ())
    return replace(report, verdicts=places_of_worst((*report.verdicts, *more)))
