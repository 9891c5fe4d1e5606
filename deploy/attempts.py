"""Try the routes of a format in order, each in a process of its own, until one is proved."""

import re
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, Literal

from edgeport.deploy.compilers.routes import RECORDED, Route
from edgeport.deploy.compilers.stored import Compiled
from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.deploy.diagnosis.diagnose import Diagnosis, diagnose
from edgeport.deploy.diagnosis.nodes import origins_in, placed
from edgeport.deploy.diagnosis.remedies import (
    CUSTOM_OPERATOR,
    EMPTY,
    OTHER_DTYPE,
    REMEDIES,
    UNRUNNABLE,
    Family,
)
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import FormatError, StorageError
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.run_failures import ANOTHER_WAY

from .isolation import Killed, Limits, run_isolated

_LONGEST_PROBLEM: Final = 200

_LACKING: Final = re.compile(r"Could not find an implementation for (\w+)\((\d+)\).* name '(.*)'")
"""What ONNX Runtime says of a node, which has a kernel for other dtypes."""

_ANOTHER_WAY: Final = re.compile(rf"(?P<sample>sample '.*?'): .*{ANOTHER_WAY}")
"""What a file with one way says of a sample that takes another."""

TAKES_ANOTHER: Final = "takes another way through forward than the example"

_CALLED: Final = re.compile(r"calls (?:operators of )?'(?:torch\.ops\.)?(\w+(?:\.\w+)?)")
"""What our own check of a file says of an operator that it may not hold."""

_OF_ANOTHER: Final = "to be of the form"
"""What the check of inputs in a .pt2 file says where a size does not follow another, torch 2.13."""

WRONG: Final = ".wrong"
"""Folder for artefacts that are not proved, for the localiser; it never ships."""

Outcome = Literal["proved", "built", "wrong", "refused", "ended"]

Prove = Callable[[Artefact], Sequence[BackendReport]]


@dataclass(frozen=True, slots=True, repr=False)
class Attempt:
    """What came of one route.

    Attributes:
        records: As in ``Route``.
        outcome: ``built`` if it cannot be proved here, for want of a GPU; ``wrong`` if an artefact
            was made that does not compute what the module computes; ``ended`` if the compiler
            crashed, or passed a limit.
        compile_s, proof_s: Wall time.
        compiled: The artefact, if one was made; the files of a wrong one are in ``kept``.
        kept: Folder of a wrong artefact.
        reports: What each backend did with it.
        diagnosis: What is the matter with it.
        traceback: Of the compiler's exception, for ``--debug``.
    """

    format: str
    route: str
    records: bool
    outcome: Outcome
    compile_s: float
    proof_s: float = 0.0
    compiled: Compiled | None = None
    kept: Path | None = None
    reports: tuple[BackendReport, ...] = ()
    diagnosis: Diagnosis | None = None
    traceback: str = ""

    def __repr__(self) -> str:
        """Short: it holds a whole artefact."""
        return f"Attempt({self.format} by {self.route}: {self.outcome})"


def first_proved(
    format_: str,
    ways: Iterable[Route],
    tries: Callable[[Route], Attempt],
    begin: Callable[[str], None],
    ended: Callable[[Attempt], None],
) -> list[Attempt]:
    """Every attempt up to the first that is proved; if none is, all of them.

    Args:
        format_: What is made.
        ways: In the order in which they are tried.
        tries: Makes an attempt.
        begin: Called with the name of each.
        ended: Called with what came of it.
    """
    made: list[Attempt] = []
    for route in ways:
        if route.mends and all(attempt.outcome != "wrong" for attempt in made):
            continue
        if route.records and route.name != RECORDED and any(map(takes_another_way, made)):
            continue  # it has one way, and answers where that is not the module's
        begin(f"{format_}: {route.name}")
        made.append(tries(route))
        ended(made[-1])
        if made[-1].outcome == "proved":
            break
    return made


def takes_another_way(attempt: Attempt) -> bool:
    """Whether its file refuses a sample, which takes another way than the example."""
    return attempt.diagnosis is not None and TAKES_ANOTHER in attempt.diagnosis.problem


def attempt(
    source: Source, format_: str, route: Route, folder: Path, prove: Prove, limits: Limits
) -> Attempt:
    """Compile by one route and prove what comes out, in a process of its own.

    Args:
        source: What to compile.
        format_: Of the artefact.
        route: How.
        folder: Where the artefact is written.
        prove: Opens the artefact and compares; called in that process.
        limits: What the process may use.

    Raises:
        StorageError: The disk is full.
    """
    start = time.perf_counter()
    work = partial(_compile_and_prove, source, format_, route, folder, prove)
    result = run_isolated(work, limits)
    if isinstance(result, Killed):
        return Attempt(
            format_,
            route.name,
            route.records,
            "ended",
            time.perf_counter() - start,
            diagnosis=_of_killed(result),
            traceback=result.output,
        )
    return result


def _compile_and_prove(
    source: Source, format_: str, route: Route, folder: Path, prove: Prove
) -> Attempt:
    start = time.perf_counter()
    try:
        with quiet(), inference_only():
            compiled = route.compile(source, folder)
    except StorageError:  # no other route has a larger disk
        raise
    except Exception as e:  # compilers raise anything, and so does the user's code
        return Attempt(
            format_,
            route.name,
            route.records,
            "refused",
            time.perf_counter() - start,
            diagnosis=diagnose(e, source.flat),
            traceback="".join(traceback.format_exception(e)),
        )
    compiled_at = time.perf_counter()
    try:
        reports = tuple(prove(compiled.artefact))
    except FormatError as e:  # as of a file that somebody sent, which is not opened either
        return Attempt(
            format_,
            route.name,
            route.records,
            "refused",
            compiled_at - start,
            time.perf_counter() - compiled_at,
            compiled,
            keep(compiled, folder, route.name),
            diagnosis=_of_unsafe(e),
        )
    wrong = next((report for report in reports if report.outcome != "pass"), None)
    told = wrong.reason or "" if wrong else ""
    lacking, refused = _LACKING.search(told), _ANOTHER_WAY.search(told)
    diagnosis = _of_lacking(lacking, compiled, source) if lacking else None
    if refused:
        why = f": {compiled.apart}" if compiled.apart else ""
        diagnosis = _told(Family.CONTROL_FLOW, f"{refused['sample']} {TAKES_ANOTHER}{why}")
    elif wrong and not lacking:
        diagnosis = _of_wrong(wrong, folder)
    return Attempt(
        format_,
        route.name,
        route.records,
        "proved" if wrong is None else "refused" if lacking or refused else "wrong",
        compiled_at - start,
        time.perf_counter() - compiled_at,
        compiled,
        keep(compiled, folder, route.name) if wrong else None,
        reports,
        diagnosis,
    )


def keep(compiled: Compiled, folder: Path, route: str) -> Path:
    """Put the files out of the way of the next route, and out of the bundle.

    Returns:
        Where they are, until the export ends.
    """
    kept = folder / WRONG / compiled.artefact.format / route
    for stored in compiled.artefact.files:
        (kept / stored.file).parent.mkdir(parents=True, exist_ok=True)
        (folder / stored.file).replace(kept / stored.file)
    return kept


def bring_back(compiled: Compiled, folder: Path, kept: Path) -> None:
    """Undo ``keep``."""
    for stored in compiled.artefact.files:
        (kept / stored.file).replace(folder / stored.file)


def _of_lacking(lacking: re.Match[str], compiled: Compiled, source: Source) -> Diagnosis:
    operator, opset, node = lacking.groups()
    found = Diagnosis(
        family=Family.OPERATOR,
        problem=f"ONNX Runtime has no {operator} of opset {opset} for the dtype that it gets here",
        remedy=OTHER_DTYPE,
    )
    named = [each for each in origins_in(compiled.debug_map) if each["node"] == node]
    return placed(found, node, named, source.module) if len(named) == 1 else found


def _of_unsafe(error: FormatError) -> Diagnosis:
    if (called := _CALLED.search(error.problem)) is None:
        return _told(Family.UNKNOWN, error.problem)
    problem = f"{called[1]} is no operator of torch"
    return Diagnosis(family=Family.OPERATOR, problem=problem, remedy=CUSTOM_OPERATOR)


def _of_wrong(report: BackendReport, folder: Path) -> Diagnosis:
    worst = "; ".join(f"{v.output}, {v.sample}: {v.reason}" for v in report.failures[:1])
    whole = (worst or report.reason or "").replace("\n  but ", ", but ")
    reason = whole.partition("\n")[0].replace(f"{folder}/", "")
    cut = f"{reason[:_LONGEST_PROBLEM]}…" if len(reason) > _LONGEST_PROBLEM else reason
    told = _told(Family.PARITY, f"{report.backend}: {cut}")
    fails = not report.failures and "has shape" not in reason
    if not fails:
        return told
    return replace(told, remedy=EMPTY if _OF_ANOTHER in reason else UNRUNNABLE)


def _of_killed(killed: Killed) -> Diagnosis:
    family = {"time": Family.TIMEOUT, "memory": Family.MEMORY, "crash": Family.CRASH}
    return _told(
        family[killed.reason],
        f"the compiler, or what proved its file, was stopped: {killed.problem}",
    )


def _told(family: Family, problem: str) -> Diagnosis:
    return Diagnosis(family=family, problem=problem, remedy=REMEDIES[family])
