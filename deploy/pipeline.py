"""From a source to a bundle, which appears only if every artefact in it has passed."""

import contextlib
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from edgeport.deploy.compilers.capture import derivatives_in_forks
from edgeport.deploy.compilers.onnx_files.string_input import FORMAT, with_strings
from edgeport.deploy.compilers.routes import routes
from edgeport.deploy.compilers.stored import EngineSource
from edgeport.deploy.compilers.targets import OnnxRequest
from edgeport.deploy.compilers.warm import warm_up
from edgeport.deploy.diagnosis.decisions import Decision, record_decisions
from edgeport.deploy.proof.dead_outputs import refuse_dead
from edgeport.deploy.proof.localiser import Localisation
from edgeport.deploy.proof.reference import (
    Reference,
    drawn_nonsense,
    limits_of_proof,
    make_golden,
    near_an_edge,
)
from edgeport.deploy.proof.task import Score, Task
from edgeport.deploy.proof.trial import Trial
from edgeport.deploy.proof.weights import weights_sha256
from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.source import Source
from edgeport.deploy.sources.surroundings import left_outside
from edgeport.deploy.tensorrt.request import engines
from edgeport.runtimes import (
    Bundle,
    Options,
    Report,
    files,
    verify,
)
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import Artefact, Manifest
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.parity.verification import verify_ways
from edgeport.runtimes.tensorrt.library import Library
from edgeport.runtimes.tensorrt.order import EngineOptions, Progress

from . import events
from .attempts import WRONG, Attempt, attempt, first_proved
from .bundle_files import artefacts_of, debug_maps, parity_report, with_golden, with_report
from .engines import build_engines
from .events import OnEvent
from .failure import explain
from .further import ask_further
from .localisation import locate
from .notes import ways_of_sizes, ways_of_values
from .other_ways import with_other_ways
from .precision import Narrowed, held_by, narrowed
from .request import Request, compiled_formats, onnx_request

_NO_CASE: Final = "there is no small case: the operator cannot be taken out of its surroundings"


@dataclass(frozen=True, slots=True, repr=False)
class Export:
    """What an export made: the bundle, the source it was made from, the proof.

    Attributes:
        notes: What was changed in the user's module, or could not be proved; sentences for them.
        debug_maps: By format, private: from the nodes of an artefact to the user's code.
        scores: By the labels, where there are some: each backend beside the module.
    """

    bundle: Bundle
    source: Source
    report: Report
    notes: tuple[str, ...]
    debug_maps: Mapping[str, str]
    scores: tuple[Score, ...] = ()

    def __repr__(self) -> str:
        """Short: a notebook prints what its cell ends with, and all that it holds takes 150 kB."""
        formats = ", ".join(artefact.format for artefact in self.bundle.manifest.artefacts)
        return (
            f"Export({str(self.bundle.path)!r}: {formats}; {self.report}; {len(self.notes)} notes)"
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """What every step of an export is given.

    Attributes:
        weights_sha256: Of the module, which a manifest holds.
        golden: What the module answers.
        task: What labels ask, if there are some.
        manifest: Makes one of these samples and of artefacts.
        folder: Where artefacts are written.
        asked: What of the request is for ONNX.
    """

    source: Source
    reference: Reference
    weights_sha256: str
    golden: tuple[Golden, ...]
    task: Task | None
    manifest: Callable[[tuple[Artefact, ...]], Manifest]
    folder: Path
    request: Request
    asked: OnnxRequest
    on_event: OnEvent

    def begin(self, name: str) -> None:
        events.begin(self.on_event, name)

    def bundle(self, *artefacts: Artefact) -> Bundle:
        return Bundle(self.folder, self.manifest(artefacts))

    def decisions(self) -> list[Decision]:
        """Where forward reads values, on every sample that it takes."""
        flat = self.source.flat
        with contextlib.redirect_stdout(io.StringIO()), record_decisions(flat) as decisions:
            for sample in self.golden:
                run_module(flat, sample.inputs)
        return list(decisions)

    def with_samples(self, more: Sequence[Golden]) -> "_Work":
        golden = (*self.golden, *more)
        thresholds = self.request.thresholds
        manifest = with_golden(self.source, self.weights_sha256, golden, thresholds, self.folder)
        return replace(self, golden=golden, manifest=manifest)


@left_outside()
def export_source(
    source: Source,
    output: Path,
    request: Request | None = None,
    on_event: OnEvent = events.ignore,
) -> Export:
    """Compile a source, prove that every artefact computes what it computes, and pack a bundle.

    Args:
        source: What to compile.
        output: A folder that does not exist yet.
        request: What is asked; ``None`` for every format.
        on_event: Called when a step begins, when it ends, and after each attempt.

    Raises:
        EdgeportError: As ``export``.
    """
    request = request or Request()
    libraries = engines(request.formats, request.engine)
    formats = with_strings(compiled_formats(request), source, request.target)
    asked = onnx_request(source, request, formats, libraries)
    with files.new_folder(output) as folder:
        work, left_out = _begun(source, request, asked, formats, folder, on_event)
        tried = [_until_proved(work, name, formats) for name in formats]
        sizes = [note for found in tried for note in ways_of_sizes(source.signature, found)]
        made = _in_precision(work, [found[-1] for found in tried])
        with events.step("more inputs", on_event):
            trial = _ask_further(work, made)
        for searched in trial.searched:
            on_event(searched)
        built, told = _engines(work, made.for_engines, libraries)
        won = [*made.won, *built]
        if trial.samples:
            work = work.with_samples(trial.samples)
        unsharp = limits_of_proof(work.golden, request.thresholds)
        told_on = (*unsharp, *made.left, *trial.notes)
        packed = replace(work.manifest(artefacts_of(won)), notes=told_on)
        report = parity_report(packed, work.golden, won, trial)
        packed = with_report(packed, report, folder)
        shutil.rmtree(folder / WRONG, ignore_errors=True)
    notes = (
        *work.reference.notes,
        *left_out,
        *sizes,
        *made.notes,
        *made.left,
        *unsharp,
        *trial.notes,
        *work.source.notes,
        *ways_of_values(won, work.decisions),
        *told,
    )
    return Export(Bundle(output, packed), work.source, report, notes, debug_maps(won), trial.scores)


def _begun(
    source: Source,
    request: Request,
    asked: OnnxRequest,
    formats: Sequence[str],
    folder: Path,
    on_event: OnEvent,
) -> tuple[_Work, list[str]]:
    """Ask the module, and load the compilers; sentences on samples that are left out."""
    with events.step("reference", on_event), derivatives_in_forks.noticed() as taken:
        source = with_other_ways(source, request.limits)
        reference = Reference(source)
        answered = make_golden(reference, lambda *told: on_event(Progress(*told)))
        golden, left_out = held_by(request.precision, answered)
        refuse_dead(golden, request.thresholds)
        task = None if request.labels is None else Task(source, request.labels)
    with events.step("compilers", on_event):
        warm_up(formats, asked.written_opset)
        if taken:
            source = derivatives_in_forks.with_recording(source)
    weights = weights_sha256(source.module)
    manifest = with_golden(source, weights, golden, request.thresholds, folder)
    work = _Work(
        source, reference, weights, golden, task, manifest, folder, request, asked, on_event
    )
    return work, left_out


def _until_proved(work: _Work, name: str, formats: Sequence[str]) -> list[Attempt]:
    """The attempts at a format, of which the last is proved."""
    limits, prove = work.request.limits, partial(_prove, work)
    tries = partial(attempt, work.source, name, folder=work.folder, prove=prove, limits=limits)
    found = first_proved(name, routes(name, work.asked), tries, work.begin, work.on_event)
    if found[-1].outcome == "proved":
        return found
    suspect = work.reference.suspect or near_an_edge(work.source, work.golden)
    raise explain(
        work.source,
        name,
        [other for other in formats if other != name],
        found,
        work.decisions,
        partial(_look, work),
        drawn_nonsense(work.golden) or suspect,
        work.reference.draws,
    )


def _prove(work: _Work, artefact: Artefact) -> tuple[BackendReport, ...]:
    """Ask every engine on the CPU; ONNX Runtime also without optimising: it can hide a defect."""
    ways = [Options(threads=1, device="cpu")]
    if artefact.format in ("onnx", FORMAT):
        ways.append(Options(threads=1, device="cpu", optimize=False))
    found = verify_ways(work.bundle(artefact), ways)
    reports, *plain = (report.backends for report in found)
    written = (replace(r, backend=f"{r.backend}, graph as written") for each in plain for r in each)
    return (*reports, *written)


def _look(work: _Work, failed: Attempt) -> Localisation | str:
    request = work.request
    with events.step("localise", work.on_event):
        found = locate(
            work.source, work.golden, failed, request.thresholds, request.limits, request.repro
        )
    if isinstance(found, str):
        return found
    if request.repro is not None:
        told = f"python {request.repro / 'repro.py'} shows it"
        found = replace(found, notes=(*found.notes, told if found.repro else _NO_CASE))
    work.on_event(found)
    return found


def _in_precision(work: _Work, won: list[Attempt]) -> Narrowed:
    """The artefacts of the bundle, in the precision that was asked for."""
    if work.request.precision is None:
        onnx = next((found.compiled for found in won if found.format == "onnx"), None)
        return Narrowed(won, None if onnx is None else EngineSource.of(onnx, work.folder), [])
    return narrowed(
        work.source,
        work.golden,
        won,
        work.folder,
        work.request,
        work.asked,
        partial(_prove, work),
        work.begin,
        work.on_event,
    )


def _ask_further(work: _Work, made: Narrowed) -> Trial:
    request = work.request
    emulated = None
    if made.emulated is not None:
        place, artefact = made.emulated
        emulated = Bundle(place, work.manifest((artefact,)))
    return ask_further(
        work.bundle(*artefacts_of(made.won)),
        work.reference,
        work.golden,
        request.search_s,
        work.task,
        request.limits,
        emulated,
    )


def _engines(
    work: _Work, onnx_file: EngineSource | None, libraries: Mapping[Library, EngineOptions]
) -> tuple[list[Attempt], list[str]]:
    """Build the engines that were asked for, from the ONNX file that is proved by now."""

    def prove(artefact: Artefact) -> Sequence[BackendReport]:
        return verify(work.bundle(artefact)).backends

    return build_engines(
        work.source,
        onnx_file,
        work.folder,
        libraries,
        work.request.formats,
        work.request.limits,
        prove,
        begin=work.begin,
        on_event=work.on_event,
    )
