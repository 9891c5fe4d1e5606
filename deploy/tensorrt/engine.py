"""Build an engine from ONNX that is proved, and prove it too where its GPU is."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import onnx

from edgeport.deploy.attempts import Attempt
from edgeport.deploy.compilers.onnx_messages import messages
from edgeport.deploy.compilers.stored import Compiled, stored
from edgeport.deploy.diagnosis.diagnose import Diagnosis
from edgeport.deploy.diagnosis.remedies import REMEDIES, Family
from edgeport.deploy.isolation import Limits
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import EngineError
from edgeport.runtimes.manifest import Artefact
from edgeport.runtimes.report import BackendReport
from edgeport.runtimes.session import FORMATS
from edgeport.runtimes.tensorrt.building import build
from edgeport.runtimes.tensorrt.library import Library
from edgeport.runtimes.tensorrt.order import Built, EngineOptions, Order, Progress, Refused

from . import profile
from .refusal import diagnose

ROUTE: Final = "build"

Prove = Callable[[Artefact], Sequence[BackendReport]]


def make_engine(
    source: Source,
    compiled: Compiled,
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
        compiled: It as ONNX, in the folder: proved.
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
    start = time.perf_counter()
    name = library.name
    sizes = profile.extents(source)
    values = profile.values(source)
    order = Order(
        name,
        str(folder / compiled.artefact.stored.file),
        str(folder / f"model{FORMATS[name]}"),
        source.signature,
        profile.shapes(source, sizes),
        values,
        options,
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
        found = diagnose(str(library), answer, compiled.debug_map, source.module)
        return replace(attempt, outcome="refused", compile_s=wall_s, diagnosis=found), []
    artefact = _artefact(source, folder, library, options, sizes)
    reports = tuple(prove(artefact))
    made = _judged(attempt, artefact, reports)
    notes = [
        *profile.notes(name, sizes, {each: values[each] for each in answer.inputs_of_values}),
        *_narrowed(name, folder / compiled.artefact.stored.file),
        *_warned(name, answer),
    ]
    proof_s = time.perf_counter() - start - wall_s
    return replace(made, compile_s=wall_s, proof_s=proof_s), [*_unproved(made), *notes]


def _artefact(
    source: Source,
    folder: Path,
    library: Library,
    options: EngineOptions,
    sizes: dict[str, profile.Extent],
) -> Artefact:
    details: dict[str, int | str] = {"engine": str(library)}
    if sizes:
        details["profile"] = ", ".join(f"{name} {extent}" for name, extent in sizes.items())
    if options.compute_capabilities:
        details["compute_capabilities"] = ", ".join(options.compute_capabilities)
    if options.workspace_bytes is not None:
        details["workspace_bytes"] = options.workspace_bytes
    for flag in ("version_compatible", "hardware_compatible", "refit"):
        if getattr(options, flag):
            details[flag] = "yes"
    precision = source.signature.precision
    return Artefact(
        library.name, precision, stored(folder, f"model{FORMATS[library.name]}"), details
    )


def _judged(attempt: Attempt, artefact: Artefact, reports: tuple[BackendReport, ...]) -> Attempt:
    """Proved, if a backend passed; wrong, if one did not; else only built."""
    wrong = next((r for r in reports if r.outcome not in ("pass", "unusable")), None)
    if wrong is not None:
        problem = f"{wrong.backend}: {wrong.reason}"
        found = Diagnosis(family=Family.PARITY, problem=problem, remedy=REMEDIES[Family.PARITY])
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
    report = next(iter(made.reports))
    return [
        f"{made.format}: {made.compiled.artefact.stored.file} is built, not proved: "
        f"{report.reason}; edgeport verify, on a machine with its GPU, proves it"
    ]


def _narrowed(format_: str, path: Path) -> list[str]:
    """TensorRT has no float64, and does not say so."""
    model = onnx.load(path, load_external_data=False)
    double = onnx.TensorProto.DOUBLE
    for message in messages(model.graph):
        kind = message.DESCRIPTOR.name
        if (kind == "TensorProto" and message.data_type == double) or (
            kind == "AttributeProto" and message.name in ("to", "dtype") and message.i == double
        ):
            return [
                f"{format_}: the module computes in float64 inside, and TensorRT has none: the "
                "engine computes it in float32"
            ]
    return []


def _warned(format_: str, answer: Built) -> list[str]:
    """What the library said of this engine; that int64 stays int64 is no news."""
    news = (text for text in answer.warnings if not text.endswith("Int64 binding."))
    return [f"{format_}: {text}" for text in news]
