"""What is asked of artefacts that have passed: NaN and Inf, the worst inputs, the user's labels.

Each backend is opened once more, in a process of its own, because engines and forks don't mix.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edgeport.deploy.sources.samples import Sample
from edgeport.runtimes import Bundle, Options, Session
from edgeport.runtimes.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity import Verdict
from edgeport.runtimes.thresholds import Thresholds
from edgeport.runtimes.verification import check_session

from .reference import Reference
from .search import Searched, search
from .task import Score, Task

_VALUES: Final = {"NaN": np.nan, "+Inf": np.inf, "-Inf": -np.inf}


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it.

    Attributes:
        samples: More golden samples: those with NaN and Inf that every backend answers as the
            module does, then the worst that were found.
        verdicts: On these, by backend.
        notes: Which backends treat NaN or Inf in another way; sentences for the user.
        searched: What each search found.
        scores: By the labels, one for each backend.
    """

    samples: tuple[Golden, ...] = ()
    verdicts: Mapping[str, tuple[Verdict, ...]] | None = None
    notes: tuple[str, ...] = ()
    searched: tuple[Searched, ...] = ()
    scores: tuple[Score, ...] = ()


def try_further(
    bundle: Bundle,
    reference: Reference,
    golden: Sequence[Golden],
    search_s: float,
    task: Task | None,
) -> Trial:
    """Open every backend of a bundle, and ask more of it.

    Args:
        bundle: Proved on its golden samples, on every backend.
        reference: What the module answers.
        golden: These samples.
        search_s: Wall time for the search, over all backends.
        task: The user's labels.

    Raises:
        EngineError: A backend failed.
    """
    sessions = {name: bundle.open(name, Options(threads=1)) for name in bundle.backends}
    thresholds = bundle.manifest.thresholds
    kept, notes = _agreed(_with_values(reference), sessions, thresholds)
    searched = [
        search(name, session, reference, golden, time_s=search_s / len(sessions))
        for name, session in sessions.items()
        if search_s > 0
    ]
    samples = (*kept, *_distinct(searched))
    beside = golden if searched else ()  # they lend their floors to what was found
    verdicts = {
        name: check_session(session, [*beside, *samples], thresholds)[-_count(samples) :]
        for name, session in sessions.items()
        if samples
    }
    scores = [task.score(name, session) for name, session in sessions.items() if task is not None]
    for session in sessions.values():
        session.close()
    return Trial(samples, verdicts, tuple(notes), tuple(searched), tuple(scores))


def _agreed(
    unusual: Sequence[Golden], sessions: Mapping[str, Session], thresholds: Thresholds
) -> tuple[list[Golden], list[str]]:
    """The samples that every backend answers as the module does, and sentences on the others."""
    apart = [
        (name, sample)
        for sample in unusual
        for name, session in sessions.items()
        if _differs(session, sample, thresholds)
    ]
    kept = [sample for sample in unusual if not any(sample is other for _, other in apart)]
    return kept, _sentences([(name, sample.name) for name, sample in apart])


def _count(samples: Sequence[Golden]) -> int:
    """Verdicts on them: one for each output."""
    return sum(len(sample.eager) for sample in samples)


def _distinct(searched: Sequence[Searched]) -> list[Golden]:
    """What was found, once: two engines with the same kernels are worst in one place."""
    found: list[Golden] = []
    for sample in (each.sample for each in searched):
        if sample is not None and not any(_equal(sample.inputs, other.inputs) for other in found):
            found.append(sample)
    return found


def _equal(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    return all(np.array_equal(array, other[name]) for name, array in one.items())


def _with_values(reference: Reference) -> list[Golden]:
    """The example with one NaN, or Inf, in the middle of each input of floats."""
    example = reference.source.example
    if not any(array.dtype.kind == "f" and array.size for array in example.values()):
        return []
    found = []
    for name, value in _VALUES.items():
        inputs = {key: _put(array, value) for key, array in example.items()}
        try:
            found.append(reference.answer(Sample(name, "edge", inputs)))
        except Exception:  # the module rejects it: nothing has to agree with an error
            continue
    return found


def _put(array: Array, value: float) -> Array:
    if array.dtype.kind != "f" or not array.size:
        return array
    array = array.copy()
    array.reshape(-1)[array.size // 2] = value
    return array


def _differs(session: Session, sample: Golden, thresholds: Thresholds) -> bool:
    """Whether it would fail: NaN and Inf at other places, or the rest too far off."""
    verdicts = check_session(session, [sample], thresholds)
    return any(verdict.status == "fail" for verdict in verdicts)


def _sentences(apart: Sequence[tuple[str, str]]) -> list[str]:
    """One for each backend."""
    by_backend: dict[str, list[str]] = {}
    for backend, sample in apart:
        by_backend.setdefault(backend, []).append(sample)
    return [
        f"{backend} does not answer inputs with {', '.join(names)} as the module does, which "
        "engines do not promise: check for them before you run it"
        for backend, names in by_backend.items()
    ]
