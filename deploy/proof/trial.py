"""What is asked of artefacts that have passed: NaN and Inf, the worst inputs, the user's labels.

Each backend is opened once more, in a process of its own, because engines and forks don't mix. The
module answers NaN and Inf in yet another one: a loop over its values may never end on them.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from edgeport.deploy.diagnosis.rules import FORKED
from edgeport.deploy.sources.running import run_module
from edgeport.runtimes import Bundle, EdgeportError, EngineError, Options
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import Precision
from edgeport.runtimes.parity.verdict import Verdict
from edgeport.runtimes.parity.verification import check_session

from .ranges import within_ranges
from .reference import Reference
from .search import Searched, search
from .task import Score, Task
from .unusual import UNUSUAL, put


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


def emulated_name(precision: str) -> str:
    """Whose answers are those of the file that rounds each value, in the place of an engine's."""
    return f"{precision}, emulated"


def refused_below_zero(reference: Reference) -> list[str]:
    """The integer inputs in which one -1 is too much for the module, mostly as it is no index.

    Raises:
        RuntimeError: torch may not be asked here: see ``compilers.derivatives_in_forks``.
    """
    found = []
    for name in _integers(reference):
        try:
            run_module(reference.source.flat, _below_zero(reference, name))
        except Exception as e:  # whatever the module raises
            if FORKED in str(e):
                raise
            found.append(name)
    return found


def answered_below_zero(
    bundle: Bundle, backend: str, reference: Reference, refused: Sequence[str]
) -> list[str]:
    """In which of these inputs a backend answers a -1: ONNX counts an index from the end then."""
    found = []
    with bundle.open(backend, Options(threads=1, device="cpu")) as session:
        for name in refused:
            with contextlib.suppress(EdgeportError):
                session.run(_below_zero(reference, name))
                found.append(name)
    return found


def try_further(
    bundle: Bundle,
    reference: Reference,
    golden: Sequence[Golden],
    unusual: Sequence[Golden],
    search_s: float,
    task: Task | None,
    emulated: Bundle | None = None,
) -> Trial:
    """Open every backend of a bundle, and ask more of it.

    Args:
        bundle: Proved on its golden samples, on every backend.
        reference: What the module answers.
        golden: These samples.
        unusual: Samples with NaN and Inf, of which those are kept that all backends answer alike.
        search_s: Wall time for the search, over all backends.
        task: The user's labels.
        emulated: With a file that does as an engine on a GPU does, which is asked too.

    Raises:
        EngineError: A backend failed.
    """
    options = Options(threads=1, device="cpu")
    asked = {name: (bundle, name) for name in bundle.backends_on("cpu")}
    if emulated is not None:
        asked[emulated_name(emulated.manifest.artefacts[0].precision)] = emulated, "ort-cpu"
    sessions = {name: of.open(backend, options) for name, (of, backend) in asked.items()}
    thresholds = bundle.manifest.thresholds
    artefacts = {name: of.artefact(backend) for name, (of, backend) in asked.items()}
    reduced: dict[str, Precision | None] = {
        name: bundle.manifest.reduced_precision(artefact) for name, artefact in artefacts.items()
    }

    def check(name: str, samples: Sequence[Golden]) -> tuple[Verdict, ...]:
        return check_session(sessions[name], samples, thresholds, reduced[name])

    kept, notes = _agreed(unusual, list(sessions), check)
    searched = [
        _searched(
            asked[name][0].path / artefacts[name].stored.file,
            reduced[name],
            partial(search, name, session, reference, golden, time_s=search_s / len(sessions)),
            golden,
        )
        for name, session in sessions.items()
        if search_s > 0
    ]
    samples = (*kept, *_distinct(searched))
    beside = golden if searched else ()  # they lend their floors to what was found
    verdicts = {
        name: check(name, [*beside, *samples])[-_count(samples) :] for name in sessions if samples
    }
    scores = [task.score(name, session) for name, session in sessions.items() if task is not None]
    for session in sessions.values():
        session.close()
    return Trial(samples, verdicts, tuple(notes), tuple(searched), tuple(scores))


def _searched(
    file: Path, narrower: Precision | None, seek: Callable[..., Searched], golden: Sequence[Golden]
) -> Searched:
    if narrower != "int8":
        return seek(narrower=narrower is not None)
    usual = [sample for sample in golden if sample.kind != "edge"]
    with within_ranges(file, usual) as judged:
        return seek(narrower=True, judged=judged)


def _agreed(
    unusual: Sequence[Golden],
    backends: Sequence[str],
    check: Callable[[str, Sequence[Golden]], Sequence[Verdict]],
) -> tuple[list[Golden], list[str]]:
    """The samples that every backend answers as the module does, and sentences on the others."""

    def differs(name: str, sample: Golden) -> bool:
        try:
            return any(verdict.status == "fail" for verdict in check(name, [sample]))
        except EngineError:  # some kernels look for NaN and Inf
            return True

    apart = [(name, sample) for sample in unusual for name in backends if differs(name, sample)]
    are_apart = {id(sample) for _, sample in apart}
    kept = [each for each in unusual if each.name in UNUSUAL and id(each) not in are_apart]
    return kept, _sentences([(name, sample.name.partition(",")[0]) for name, sample in apart])


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


def _integers(reference: Reference) -> list[str]:
    example = reference.source.example
    return [name for name, array in example.items() if array.dtype.kind == "i" and array.size]


def _below_zero(reference: Reference, name: str) -> dict[str, Array]:
    example = reference.source.example
    return {**example, name: put(example[name], -1, "i")}


def _sentences(apart: Sequence[tuple[str, str]]) -> list[str]:
    """One for each backend."""
    by_backend: dict[str, dict[str, None]] = {}
    for backend, sample in apart:
        by_backend.setdefault(backend, {})[sample] = None
    return [
        f"{backend} answers inputs with {', '.join(names)} otherwise than the module, as engines "
        "may: check inputs for them before you run it"
        for backend, names in by_backend.items()
    ]
