"""From a source to a bundle, which appears only if every artefact in it has passed."""

import contextlib
import io
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from edgeport.deploy.compilers.capture import derivatives_in_forks
from edgeport.deploy.compilers.onnx_files.string_input import FORMAT, with_strings
from edgeport.deploy.compilers.routes import RECORDED, routes
from edgeport.deploy.compilers.stored import EngineSource
from edgeport.deploy.compilers.warm import warm_up
from edgeport.deploy.diagnosis.decisions import (
    Decision,
    describe,
    numbers,
    of_number,
    record_decisions,
    taken_both_ways,
    unexercised,
)
from edgeport.deploy.proof.localiser import Localisation
from edgeport.deploy.proof.reference import (
    Reference,
    drawn_nonsense,
    limits_of_proof,
    make_golden,
    near_an_edge,
)
from edgeport.deploy.proof.task import Score, Task
from edgeport.deploy.proof.weights import weights_sha256
from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.source import Source
from edgeport.deploy.sources.surroundings import left_outside
from edgeport.deploy.tensorrt.request import engines
from edgeport.runtimes import (
    Bundle,
    Options,
    ParityError,
    Report,
    Signature,
    files,
    verify,
)
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.bundles.manifest import Artefact, Manifest
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verification import output_facts, verify_ways
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
from .other_ways import with_other_ways
from .precision import held_by, narrowed
from .request import Request, compiled_formats, onnx_request

_OF_SIZES: Final = re.compile("forward (asks whether|takes the dimension '.*' up to)")
"""What a route is refused for that knows of a branch on sizes."""

_NO_CASE: Final = "there is no small case: the operator cannot be taken out of its surroundings"


@dataclass(frozen=True, slots=True)
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
        with events.step("reference", on_event), derivatives_in_forks.noticed() as taken:
            source = with_other_ways(source, request.limits)
            reference = Reference(source)
            answered = make_golden(reference, lambda *told: on_event(Progress(*told)))
            golden, left_out = held_by(request.precision, answered)
            _refuse_dead(golden, request.thresholds)
            task = None if request.labels is None else Task(source, request.labels)
        with events.step("compilers", on_event):
            warm_up(formats, asked.written_opset)
            if taken:
                source = derivatives_in_forks.with_recording(source)
        weights = weights_sha256(source.module)
        manifest = with_golden(source, weights, golden, request.thresholds, folder)
        won = []
        begin = partial(events.begin, on_event)
        prove = partial(_prove, folder, manifest)
        for name in formats:
            ways = routes(name, asked)
            tries = partial(
                attempt, source, name, folder=folder, prove=prove, limits=request.limits
            )
            found = first_proved(name, ways, tries, begin, on_event)
            if found[-1].outcome != "proved":
                others = [other for other in formats if other != name]
                raise explain(
                    source,
                    name,
                    others,
                    found,
                    partial(_decisions, source, golden),
                    partial(_look, source, golden, request, on_event),
                    drawn_nonsense(golden) or reference.suspect or near_an_edge(source, golden),
                    reference.draws,
                )
            won.append(found[-1])
            left_out += _ways_of_sizes(source.signature, found)
        proved = next((found.compiled for found in won if found.format == "onnx"), None)
        onnx_file = None if proved is None else EngineSource.of(proved, folder)
        emulated = None
        if request.precision is not None:
            narrow = narrowed(source, golden, won, folder, request, asked, prove, begin, on_event)
            won, onnx_file = narrow.won, narrow.for_engines
            left_out += narrow.notes
            if narrow.emulated is not None:
                emulated = Bundle(narrow.emulated[0], manifest((narrow.emulated[1],)))
        with events.step("more inputs", on_event):
            trial = ask_further(
                Bundle(folder, manifest(artefacts_of(won))),
                reference,
                golden,
                request.search_s,
                task,
                request.limits,
                emulated,
            )
        for searched in trial.searched:
            on_event(searched)
        built, told = _engines(source, folder, manifest, onnx_file, libraries, request, on_event)
        won += built
        if trial.samples:
            golden = (*golden, *trial.samples)
            manifest = with_golden(source, weights, golden, request.thresholds, folder)
        packed = manifest(artefacts_of(won))
        report = parity_report(packed, golden, won, trial)
        packed = with_report(packed, report, folder)
        shutil.rmtree(folder / WRONG, ignore_errors=True)
    notes = (
        *reference.notes,
        *left_out,
        *limits_of_proof(golden, request.thresholds),
        *trial.notes,
        *_notes(source, won, partial(_decisions, source, golden)),
        *told,
    )
    return Export(Bundle(output, packed), source, report, notes, debug_maps(won), trial.scores)


def _refuse_dead(golden: Sequence[Golden], thresholds: Thresholds) -> None:
    facts = [each for each in output_facts(golden) if each.proves_nothing(thresholds)]
    if dead := [each.name for each in facts]:
        empty = [name for name in dead if not any(sample.eager[name].size for sample in golden)]
        if empty:
            raise ParityError(
                f"{_named(empty)} has no elements on any sample, so it proves nothing",
                remedy="give an example, or a range, in which it has some, or allow it with "
                "--constant-output NAME",
            )
        if lost := [name for name in dead if all(_is_nan(sample.eager[name]) for sample in golden)]:
            raise ParityError(
                f"{_named(lost)} is NaN on every sample, so it proves nothing",
                remedy="look for what makes it NaN: weights that are (a note names them), 0 / 0, "
                "the logarithm or root of what is negative; or give other --samples",
            )
        if constant := [each.name for each in facts if each.constant]:
            raise ParityError(
                f"{_named(constant)} is the same on every sample, so it proves nothing",
                remedy="give --samples that make it vary, or allow it with --constant-output NAME",
            )
        raise ParityError(
            f"{_named(dead)} is drowned in its rounding error, so it proves nothing: eager itself "
            f"is {_share(min(each.zeros_ratio for each in facts))} of its size from float64",
            remedy="give --samples without what drowns it (a mask that hides all that a row may "
            "look at leaves the rounding errors of numbers as large as what hides them), or leave "
            "it out of what forward returns, or allow it with --constant-output NAME",
        )


def _share(zeros_ratio: float) -> str:
    """How much of an output is rounding error: zeros are off by all of it."""
    return "all" if zeros_ratio <= 1 else f"{1 / zeros_ratio:.0%}"


def _is_nan(values: Array) -> bool:
    return values.dtype.kind == "f" and bool(np.isnan(values).all())


def _named(outputs: Sequence[str]) -> str:
    *others, last = map(repr, outputs)
    return f"each of the outputs {', '.join(others)} and {last}" if others else f"the output {last}"


def _prove(
    folder: Path, manifest: Callable[[tuple[Artefact, ...]], Manifest], artefact: Artefact
) -> tuple[BackendReport, ...]:
    """Ask every engine on the CPU; ONNX Runtime also without optimising: it can hide a defect."""
    bundle = Bundle(folder, manifest((artefact,)))
    ways = [Options(threads=1, device="cpu")]
    if artefact.format in ("onnx", FORMAT):
        ways.append(Options(threads=1, device="cpu", optimize=False))
    reports, *plain = (report.backends for report in verify_ways(bundle, ways))
    written = (replace(r, backend=f"{r.backend}, graph as written") for each in plain for r in each)
    return (*reports, *written)


def _engines(
    source: Source,
    folder: Path,
    manifest: Callable[[tuple[Artefact, ...]], Manifest],
    onnx_file: EngineSource | None,
    libraries: Mapping[Library, EngineOptions],
    request: Request,
    on_event: OnEvent,
) -> tuple[list[Attempt], list[str]]:
    """Build the engines that were asked for, from the ONNX file that is proved by now."""

    def prove(artefact: Artefact) -> Sequence[BackendReport]:
        return verify(Bundle(folder, manifest((artefact,)))).backends

    return build_engines(
        source,
        onnx_file,
        folder,
        libraries,
        request.formats,
        request.limits,
        prove,
        begin=partial(events.begin, on_event),
        on_event=on_event,
    )


def _look(
    source: Source, golden: Sequence[Golden], request: Request, on_event: OnEvent, failed: Attempt
) -> Localisation | str:
    with events.step("localise", on_event):
        found = locate(source, golden, failed, request.thresholds, request.limits, request.repro)
    if isinstance(found, str):
        return found
    if request.repro is not None:
        told = f"python {request.repro / 'repro.py'} shows it"
        found = replace(found, notes=(*found.notes, told if found.repro else _NO_CASE))
    on_event(found)
    return found


def _decisions(source: Source, golden: Sequence[Golden]) -> list[Decision]:
    """Where forward reads values, on every sample that it takes."""
    with contextlib.redirect_stdout(io.StringIO()), record_decisions(source.flat) as decisions:
        for sample in golden:
            run_module(source.flat, sample.inputs)
    return list(decisions)


def _ways_of_sizes(declared: Signature, found: Sequence[Attempt]) -> list[str]:
    """A sentence if one run was recorded of what is known to go another way at some sizes."""
    told = [each.diagnosis.problem for each in found[:-1] if each.diagnosis]
    asked = next((problem for problem in told if _OF_SIZES.match(problem)), None)
    has_no_end = any(declared.range_of(name).max is None for name in declared.dimensions)
    if asked is None or not found[-1].records or not has_no_end:
        return []
    return [
        f"{found[-1].format}: one run was recorded, which has one way alone where {asked}: what is "
        "larger than was tried may be wrong; declare the largest there is"
    ]


def _notes(
    source: Source, won: Sequence[Attempt], decisions: Callable[[], list[Decision]]
) -> tuple[str, ...]:
    """What the user should know: what was changed, and which branches no sample took."""
    recorded = [found for found in won if found.records]
    if not recorded:
        return source.notes
    refusing = [found for found in recorded if found.route == RECORDED]
    answering = [found.format for found in recorded if found.route != RECORDED]
    seen = decisions()
    one_way = unexercised(seen)
    pairs = (
        ([found.format for found in refusing], one_way),
        (answering, (*one_way, *taken_both_ways(seen))),
    )
    sentences = [
        f"{' and '.join(formats)}: {describe(decision, is_refused=formats is not answering)}"
        for formats, told in pairs
        if formats
        for decision in told
    ]
    fixed = {found.format: found.compiled.fixed for found in refusing if found.compiled}
    fixed.update(dict.fromkeys(answering, numbers(seen)))
    lines = dict.fromkeys(line for each in fixed.values() for line in each)
    sentences += [
        f"{' and '.join(name for name, own in fixed.items() if line in own)}: {of_number(line)}"
        for line in lines
    ]
    return (*source.notes, *sentences)
