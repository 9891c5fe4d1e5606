"""Engines that are built from the proved ONNX file: each an attempt, like those of a compiler."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from edgeport.deploy.compilers.stored import Compiled, EngineSource, stored
from edgeport.deploy.diagnosis.diagnose import Diagnosis
from edgeport.deploy.diagnosis.remedies import REMEDIES, Family
from edgeport.deploy.sources.source import Source
from edgeport.deploy.tensorrt import doubts, profile
from edgeport.deploy.tensorrt.refusal import diagnose
from edgeport.deploy.tensorrt.rewritten import rewritten
from edgeport.runtimes import EdgeportError, EngineError
from edgeport.runtimes.bundles.manifest import Artefact
from edgeport.runtimes.cuda.gpus import gpus
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.session import FORMATS
from edgeport.runtimes.tensorrt.cached_build import build
from edgeport.runtimes.tensorrt.extents import Extent, in_words, shapes
from edgeport.runtimes.tensorrt.library import Library
from edgeport.runtimes.tensorrt.order import EngineOptions, Order, Progress, Refused
from edgeport.runtimes.tensorrt.tensors import ANSWERED, REFUSES_BY

from .attempts import Attempt, Prove
from .failure import explain
from .isolation import Limits

ROUTE: Final = "build"

_ANSWERS: Final = (
    f"an output of its own, {ANSWERED!r}, is false where the ONNX file refuses an input; sessions "
    "of edgeport refuse it too, and what else opens the engine has to ask it"
)
_OF_GRAPH: Final = ("widened", "float32", "quantization", REFUSES_BY)
"""What is told of the graph that an engine is built from, and holds for the engine."""


def build_engines(
    source: Source,
    onnx: EngineSource | None,
    folder: Path,
    libraries: Mapping[Library, EngineOptions],
    formats: Sequence[str],
    limits: Limits,
    prove: Prove,
    *,
    begin: Callable[[str], None],
    on_event: Callable[[Attempt | Progress], None],
) -> tuple[list[Attempt], list[str]]:
    """Build every engine that was asked for.

    Args:
        source: What is compiled.
        onnx: It as ONNX, proved; ``None`` only if no engine is asked for.
        folder: Where engines are written.
        libraries: That build, each with its options.
        formats: All that were asked for.
        limits: What the process of one build may use.
        prove: Opens an engine and compares.
        begin: Called with the name of each step.
        on_event: Called while and after each is built.

    Returns:
        An attempt for each, and what the user should know, in sentences.

    Raises:
        EdgeportError: One cannot be built, or computes something else than the module.
    """
    made: list[Attempt] = []
    notes: list[str] = []
    for library, options in libraries.items():
        if onnx is None:
            raise ValueError(f"{library.name} is built from ONNX, and there is none")
        begin(f"{library.name}: {ROUTE}")
        attempt, told = make_engine(source, onnx, folder, library, options, limits, prove, on_event)
        on_event(attempt)
        if attempt.outcome not in ("proved", "built"):
            others = [name for name in formats if name != library.name] or ["onnx"]
            raise explain(source, library.name, others, [attempt], list, _cannot_look)
        made.append(attempt)
        notes += told
    return made, notes


def make_engine(
    source: Source,
    onnx: EngineSource,
    folder: Path,
    library: Library,
    options: EngineOptions,
    limits: Limits,
    prove: Prove,
    on_progress: Callable[[Progress], None],
) -> tuple[Attempt, list[str]]:
    """Build an engine, and compare it with the module if it can be run here.

    Args:
        source: What is compiled.
        onnx: It as ONNX, proved.
        folder: Where the engine is written.
        library: That builds it.
        options: How.
        limits: What the process that builds may use.
        prove: Opens the engine and compares; says that it is not usable where it is not.
        on_progress: Called while it is built.

    Returns:
        What came of it, and what the user should know, in sentences.

    Raises:
        BackendMissingError: The library cannot build here.
        ContractError: TensorRT understood something else than was asked, or an option did not
            take.
        StorageError: The engine cannot be written.
    """
    with rewritten(onnx.path, library.name) as (path, tells):
        details = {**onnx.details, **({REFUSES_BY: ANSWERED} if tells else {})}
        onnx = replace(onnx, path=path, details=details)
        start = time.perf_counter()
        name = library.name
        sizes = profile.extents(source)
        values = profile.values(source)
        order = Order(
            name,
            str(onnx.path),
            str(folder / f"model{FORMATS[name]}"),
            source.signature,
            shapes(source.signature, sizes),
            values,
            options,
            onnx.precision,
        )
        attempt = Attempt(name, ROUTE, False, "ended", 0.0)
        try:
            answer = build(order, limits.time_s, limits.memory_bytes, on_progress)
        except EngineError as e:
            wall_s = time.perf_counter() - start
            found = Diagnosis(family=Family.CRASH, problem=e.problem, remedy=e.remedy)
            return replace(attempt, compile_s=wall_s, diagnosis=found), []
        wall_s = time.perf_counter() - start
        if isinstance(answer, Refused):
            narrowed = onnx.precision != source.precision
            found = diagnose(
                str(library),
                answer,
                onnx.debug_map,
                source.module,
                file=Path(order.onnx),
                narrowed=narrowed,
            )
            return replace(attempt, outcome="refused", compile_s=wall_s, diagnosis=found), []
        artefact = _artefact(onnx, folder, library, options, sizes)
        other = _for_other_gpus(options)
        reports = tuple(prove(artefact)) if other is None else (_unusable(artefact, other),)
        made = _judged(attempt, artefact, reports)
        notes = [
            *profile.notes(name, sizes, {each: values[each] for each in answer.inputs_of_values}),
            *doubts.narrowed(name, onnx.path),
            *doubts.warned(name, answer),
            *([f"{name}: {_ANSWERS}"] if tells and made.compiled else []),
        ]
        proof_s = time.perf_counter() - start - wall_s
        return replace(made, compile_s=wall_s, proof_s=proof_s), [*_unproved(made), *notes]


def _artefact(
    onnx: EngineSource,
    folder: Path,
    library: Library,
    options: EngineOptions,
    sizes: dict[str, Extent],
) -> Artefact:
    details: dict[str, int | str] = {"engine": str(library)}
    if sizes:
        details["profile"] = in_words(sizes)
    if options.compute_capabilities:
        details["compute_capabilities"] = ", ".join(options.compute_capabilities)
    if options.workspace_bytes is not None:
        details["workspace_bytes"] = options.workspace_bytes
    for flag in ("version_compatible", "hardware_compatible", "refit"):
        if getattr(options, flag):
            details[flag] = "yes"
    details |= {key: onnx.details[key] for key in _OF_GRAPH if key in onnx.details}
    return Artefact(
        library.name, onnx.precision, stored(folder, f"model{FORMATS[library.name]}"), details
    )


def _for_other_gpus(options: EngineOptions) -> str | None:
    """Why an engine is not for the GPU of this machine, if there is one and it is not."""
    try:
        found = gpus()
    except EdgeportError:  # no GPU: the backend says so itself
        return None
    if not options.compute_capabilities or found.capabilities[0] in options.compute_capabilities:
        return None
    asked = ", ".join(options.compute_capabilities)
    return f"it is for compute capability {asked}, and {found.names[0]} has {found.capabilities[0]}"


def _unusable(artefact: Artefact, reason: str) -> BackendReport:
    return BackendReport(
        artefact.format,
        artefact.stored.file,
        "unusable",
        reason,
        "run edgeport verify on a machine with such a GPU",
    )


def _judged(attempt: Attempt, artefact: Artefact, reports: tuple[BackendReport, ...]) -> Attempt:
    """Proved, if a backend passed; wrong, if one did not; else only built."""
    wrong = next((r for r in reports if r.outcome not in ("pass", "unusable")), None)
    if wrong is not None:
        problem = f"{wrong.backend}: {wrong.reason}"
        remedy = REMEDIES[Family.PARITY] if wrong.failures else wrong.remedy  # not of one unopened
        found = Diagnosis(
            family=Family.PARITY, problem=problem, remedy=remedy or REMEDIES[Family.PARITY]
        )
        return replace(attempt, outcome="wrong", reports=reports, diagnosis=found)
    proved = any(report.outcome == "pass" for report in reports)
    return replace(
        attempt,
        outcome="proved" if proved else "built",
        compiled=Compiled(replace(artefact, proved=proved)),
        reports=reports,
    )


def _unproved(made: Attempt) -> list[str]:
    if made.outcome != "built" or made.compiled is None:
        return []
    why = next((f": {report.reason}" for report in made.reports), "")
    return [
        f"{made.format}: {made.compiled.artefact.stored.file} is built, not proved{why}; "
        "edgeport verify, on a machine with its GPU, proves it"
    ]


def _cannot_look(_: Attempt) -> str:
    return "an engine keeps no values in between; the ONNX file it was built from is right"
