"""Every route failed: one error that says where, why, and what to do."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from edgeport.deploy.diagnosis.decisions import Decision
from edgeport.deploy.diagnosis.diagnose import Diagnosis
from edgeport.deploy.diagnosis.remedies import CHOSEN_LAYER, FIXED, LOOP, NUMPY, REMEDIES, Family
from edgeport.deploy.kinds import kind_of
from edgeport.deploy.proof.localiser import Localisation
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import ContractError, EdgeportError, ExportError, ParityError

from .attempts import Attempt, takes_another_way

_TITLES: Final = {
    "onnx": "ONNX",
    "torchscript": "TorchScript",
    "pt2": "pt2",
    "aotinductor": "AOTInductor",
    "tensorrt": "TensorRT",
    "tensorrt-rtx": "TensorRT-RTX",
    "onnx-strings": "ONNX of strings",
    "float16": "ONNX in float16",
    "bfloat16": "ONNX rounded to bfloat16",
    "int8": "ONNX in int8",
}


class _CompilerError(Exception):
    """Carries the traceback of another process, which ``--debug`` shows."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def explain(
    source: Source,
    format_: str,
    others: Sequence[str],
    failed: Sequence[Attempt],
    decisions: Callable[[], Sequence[Decision]],
    locate: Callable[[Attempt], Localisation | str] | None,
    nonsense: str | None = None,
    draws: str | None = None,
) -> EdgeportError:
    """The error to raise after every route to a format failed.

    Args:
        source: What was compiled.
        format_: What it was compiled to.
        others: Formats that were asked for beside it.
        failed: At least one attempt, each with its diagnosis.
        decisions: Finds where forward reads values, which a recorded run bakes in.
        locate: Finds where a wrong artefact leaves the module, or says why it cannot; ``None``
            where it is wrong everywhere.
        nonsense: What is the matter with the samples, if something is: the first suspect.
        draws: What the module draws, if it draws random numbers: a suspect too.
    """
    far_off = [attempt for attempt in failed if locate is None and attempt.outcome == "wrong"]
    # more is known than of a want of narrower kernels, and of what has a line
    chief = min(far_off or failed, key=lambda a: (_rank(a), _diagnosis(a).source is None))
    found = _diagnosis(chief)
    chosen = any(_diagnosis(attempt).remedy == CHOSEN_LAYER for attempt in failed)
    branches = found.family == Family.CONTROL_FLOW or (chosen and found.family == Family.SIZE)
    if chief.outcome == "refused" and branches:
        found = _with_sample(found, failed)
    if found.remedy == LOOP or (chief.outcome == "refused" and branches):
        found = _with_script(found, format_, failed)
    if chief.outcome == "wrong" and chief.records:
        found = _with_decision(found, decisions())
    if chief.outcome == "refused" and (carried := source.carried()):
        found = _with_carried(found, carried)
    if chief.outcome == "wrong" and nonsense:
        found = replace(found, remedy=f"{nonsense}; else {found.remedy}")
    if draws:
        found = replace(found, remedy=f"{draws}; else {found.remedy}")
    if _fails_by_request(chief):
        found = replace(found, remedy=_ASKED_TOO_MUCH)
    what = "is not proved" if chief.outcome == "wrong" else "cannot be compiled"
    error = _kind(chief)(
        "\n".join(
            [
                f"{_TITLES[format_]}: {kind_of(source.module)} {what}: {found.problem}",
                *_places(found),
                *_located(chief, failed, locate),
                *_tried(failed),
            ]
        ),
        remedy=_remedy(found.remedy, format_, others),
    )
    error.__cause__ = _CompilerError(chief.traceback) if chief.traceback else None
    return error


_ASKED_TOO_MUCH: Final = (
    "it passes with the default bars (docs/parity.md): ask for less (--max-ratio, --min-signal)"
)


def _fails_by_request(attempt: Attempt) -> bool:
    """Whether an artefact is wrong by the bars that were asked for, and right by the usual ones."""
    wrong = [report for report in attempt.reports if report.failures]
    return bool(wrong) and all(report.passes_by_default() for report in wrong)


def _remedy(remedy: str, format_: str, others: Sequence[str]) -> str:
    """What to do; one format that cannot be had need not cost the others."""
    if not others or "--format" in remedy:
        return remedy
    return f"{remedy}; or leave {_TITLES[format_]} out: --format {','.join(others)}"


def _with_sample(found: Diagnosis, failed: Sequence[Attempt]) -> Diagnosis:
    """A recorded run would do, if it were not for one sample."""
    told = next((_diagnosis(each).problem for each in failed if takes_another_way(each)), None)
    return (
        found
        if told in (None, found.problem)
        else replace(found, problem=f"{found.problem}, where {told}")
    )


def _with_script(found: Diagnosis, format_: str, failed: Sequence[Attempt]) -> Diagnosis:
    """A script keeps branches and loops: what it was refused for is worth knowing, too."""
    refused = [a for a in failed if a.route in ("script", "converted") and a.outcome == "refused"]
    told = [_diagnosis(attempt) for attempt in refused]
    known = next(
        (each for each in told if each.family in (Family.CONTROL_FLOW, Family.PYTHON)), None
    )
    if known is None:
        hint = "TorchScript may hold it, if forward can be scripted"
        return (
            found if format_ == "torchscript" else replace(found, remedy=f"{found.remedy}; {hint}")
        )
    advice = known.remedy.partition(", or leave the format out")[0]
    if known.remedy in REMEDIES.values():
        advice = "write what TorchScript refuses in other words"
    other = FIXED if found.remedy == LOOP else found.remedy
    return replace(
        found,
        problem=f"{found.problem}, and {known.problem}",
        remedy=f"{advice}: a script keeps branches and loops; or {other}",
    )


def _with_carried(found: Diagnosis, carried: Sequence[str]) -> Diagnosis:
    """What a module keeps is a constant to one compiler, and an unknown size to another."""
    names = ", ".join(carried[:3])
    first = f"make what {names} holds in __init__, or anew in each call, and keep nothing"
    return replace(found, remedy=f"{first}; or {found.remedy}")


def _with_decision(found: Diagnosis, decisions: Sequence[Decision]) -> Diagnosis:
    """A recorded run that is wrong has most likely baked in what forward decided."""
    if not decisions:
        return found
    first = decisions[0]
    remedy = {
        "bool": REMEDIES[Family.CONTROL_FLOW],
        "array": NUMPY,
    }.get(first.kind, REMEDIES[Family.SIZE])
    return replace(found, source=first.source, layer=first.layer, remedy=remedy)


def _rank(attempt: Attempt) -> int:
    """Prefer who knows what is the matter: torch.jit.script refuses much that is not wrong."""
    family = _diagnosis(attempt).family
    if family == Family.UNKNOWN:
        return 3
    if attempt.route in ("script", "converted"):
        return 2
    return 1 if attempt.outcome == "wrong" else 0


def _kind(attempt: Attempt) -> type[EdgeportError]:
    if attempt.outcome == "wrong":
        return ParityError
    return ContractError if _diagnosis(attempt).family == Family.CONTRACT else ExportError


def _places(found: Diagnosis) -> list[str]:
    places = {"layer": found.layer, "operator": found.operator, "source": found.source}
    return [f"  {name:<10}{place}" for name, place in places.items() if place]


def _located(
    chief: Attempt,
    failed: Sequence[Attempt],
    locate: Callable[[Attempt], Localisation | str] | None,
) -> list[str]:
    """Where the artefact of a route that wrote one is wrong."""
    wrong = next((attempt for attempt in (chief, *failed) if attempt.outcome == "wrong"), None)
    if wrong is None or locate is None:
        return []
    found = locate(wrong)
    if isinstance(found, str):
        return [f"  {'diverges':<10}the localiser found nothing: {found}"]
    return [*([] if wrong is chief else [f"  in the file of {wrong.route}:"]), *found.place_lines()]


def _tried(failed: Sequence[Attempt]) -> list[str]:
    width = max(len(attempt.route) for attempt in failed)
    return [
        f"  {'tried' if not index else '':<10}{attempt.route:<{width}}  "
        f"{attempt.outcome}: {_diagnosis(attempt).problem}"
        for index, attempt in enumerate(failed)
    ]


def _diagnosis(attempt: Attempt) -> Diagnosis:
    if attempt.diagnosis is None:
        raise ValueError(f"the attempt {attempt.route} did not fail")
    return attempt.diagnosis
