"""Ask every engine of this machine whether it computes what the module computed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.bundles.evidence import proofs
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.errors import (
    BackendMissingError,
    EdgeportError,
    EngineError,
    InputError,
    OutOfMemoryError,
    UsageError,
)
from edgeport.runtimes.formats.records import from_json, to_json
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.outputs import check_outputs
from edgeport.runtimes.safety.isolation import Limits, run_limited
from edgeport.runtimes.session import BACKENDS, Options, Session, check_options, probe

from .figures import Figures
from .informative import uninformative
from .repeats import repeat
from .report import BackendReport, Outcome, OutputFacts, Report
from .thresholds import Precision, Thresholds
from .verdict import Verdict, judge, judge_together, pool_floors, worst

_USUAL: Final = ("real", "random")


def verify(
    bundle: Bundle | str | Path,
    backends: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    device: str | None = None,
    gpu: GpuOptions | None = None,
    optimize: bool = True,
    thresholds: Thresholds | None = None,
    limits: Limits | None = None,
) -> Report:
    """Check every hash, then repeat the golden samples on every backend that is usable here.

    Args:
        bundle: What to verify, or where it is.
        backends: Only these; ``None`` for all that fit the bundle and can run on the device.
        threads: As in ``Options``.
        device: As in ``Options``; ``None`` for each backend's own.
        gpu: What else is asked of a GPU, by a ``device`` that is one.
        optimize: As in ``Options``.
        thresholds: Where a verdict turns; ``None`` for what the bundle holds.
        limits: What one child process for each backend may use, for a bundle of somebody else;
            ``None`` to run everything in this process. In a child torch takes one thread unless
            ``threads`` says otherwise, which hangs if torch computed with several here before.

    Raises:
        MissingFileError: A file of the bundle is not there, or the bundle.
        IntegrityError: A file is not the one that was packed.
        FormatError: The golden samples are damaged, or it is no bundle.
        SignatureError: As ``Bundle.read``.
        UsageError: A backend does not exist, does not fit the bundle or does not run on the
            device, or a threshold is for an output that is not there.
        BackendMissingError: A backend that was asked for by name cannot be used here.

    Examples:
        >>> verify("digits.edge", threads=1).passed                       # doctest: +SKIP
        True
    """
    options = Options(threads=threads, optimize=optimize, device=device, gpu=gpu or GpuOptions())
    return verify_ways(bundle, [options], backends, thresholds=thresholds, limits=limits)[0]


def verify_ways(
    bundle: Bundle | str | Path,
    ways: Sequence[Options],
    backends: Sequence[str] | None = None,
    *,
    thresholds: Thresholds | None = None,
    limits: Limits | None = None,
) -> list[Report]:
    """Verify a bundle by several ways of opening it; its files are checked and read once.

    Args:
        bundle: As for ``verify``.
        ways: A report is made of each.
        backends: As for ``verify``.
        thresholds: As for ``verify``.
        limits: As for ``verify``.

    Raises:
        EdgeportError: As ``verify``.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.read(bundle)
    thresholds = thresholds or bundle.manifest.thresholds
    thresholds.check_outputs([spec.name for spec in bundle.manifest.signature.outputs])
    for options in ways:
        for name in backends or bundle.backends_on(options.device):
            check_options(name, options)
        for name in backends or ():
            _require_usable(bundle, name, options.device)
    bundle.check_files()
    samples = proving_samples(bundle)
    facts = output_facts(samples)
    run = _run if limits is None else partial(_run_apart, limits)

    def report(options: Options) -> Report:
        asked = backends or bundle.backends_on(options.device)
        reports = [run(bundle, name, samples, options, thresholds) for name in asked]
        for each in reports:
            if backends and each.outcome == "unusable":
                raise _unusable(each.backend, each.reason, each.remedy)
        judged = (_elsewhere(bundle, each.judged(facts, thresholds)) for each in reports)
        return Report(bundle.manifest.name, len(samples), thresholds, tuple(judged), facts)

    return [report(options) for options in ways]


def proving_samples(bundle: Bundle) -> tuple[Golden, ...]:
    """The golden samples of a bundle, of which there has to be one.

    Raises:
        EdgeportError: As ``Bundle.golden``.
        UsageError: There are none.
    """
    samples = bundle.golden()
    if not samples:
        raise UsageError(
            f"{bundle.path} holds no golden samples, so it cannot prove anything",
            remedy="export the model again",
        )
    return samples


def check_session(
    session: Session,
    samples: Sequence[Golden],
    thresholds: Thresholds,
    reduced: Precision | None = None,
) -> tuple[Verdict, ...]:
    """Run the samples through an open session and judge every output.

    Args:
        session: The backend.
        samples: With the answers that are expected.
        thresholds: Where a verdict turns.
        reduced: The artefact's precision, where it is narrower than the module's.

    Raises:
        EngineError: The engine failed on a sample, or answered something else than its signature
            says.
    """
    answers = (_answer(session, sample) for sample in samples)
    return check_answers(answers, samples, thresholds, reduced)


def check_answers(
    answers: Iterable[Mapping[str, Array]],
    samples: Sequence[Golden],
    thresholds: Thresholds,
    reduced: Precision | None = None,
) -> tuple[Verdict, ...]:
    """Judge every output of what was answered to the samples, in their order."""
    measured = [
        {name: sample.measure(name, outputs[name]) for name in sample.eager}
        for sample, outputs in zip(samples, answers, strict=True)
    ]
    for name in {name for sample in samples for name in sample.eager}:
        _pool(name, samples, measured)
    verdicts = [
        judge(name, sample.name, figures, thresholds, kind=sample.kind, reduced=reduced)
        for sample, outputs in zip(samples, measured, strict=True)
        for name, figures in outputs.items()
    ]
    verdicts = judge_together(verdicts, thresholds, reduced)
    return places_of_worst(verdicts)


def places_of_worst(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Keep the places of the worst sample of each output.

    They are enough; a report of many samples would be full of them.
    """
    shown = worst(verdicts)
    return tuple(v if v is shown[v.output] else _without_places(v) for v in verdicts)


def _without_places(verdict: Verdict) -> Verdict:
    return replace(verdict, figures=replace(verdict.figures, places=()))


def _pool(name: str, samples: Sequence[Golden], measured: Sequence[dict[str, Figures]]) -> None:
    """Lend the floors of one output, in place. What a search found borrows, and lends nothing."""
    lenders = [index for index, sample in enumerate(samples) if sample.kind in _USUAL]
    pooled = pool_floors([measured[index][name] for index in lenders])
    for index, sample in enumerate(samples):
        if sample.kind == "search":
            lent = [measured[lender][name] for lender in lenders]
            measured[index][name] = pool_floors([*lent, measured[index][name]])[-1]
    for index, figures in zip(lenders, pooled, strict=True):
        measured[index][name] = figures


def _require_usable(bundle: Bundle, name: str, device: str | None) -> None:
    bundle.artefact(name)
    available = probe(name, device)
    if not available.usable:
        raise _unusable(name, available.reason, available.remedy)


def _elsewhere(bundle: Bundle, report: BackendReport) -> BackendReport:
    """Say so where it passed with another release of the engine."""
    if report.outcome != "fail" or (report.engine and "cuda" in report.engine.device):
        return report
    engine = report.engine or probe(report.backend)
    here = f"{engine.engine} {engine.version}"
    for proof in proofs(bundle):
        is_told = proof.engine.isprintable()  # a stranger's text could end the line
        passed = (proof.backend, proof.outcome) == (report.backend, "pass")
        if is_told and passed and proof.engine != here:
            remedy = (
                f"it passed with {proof.engine} where it was made: install that here, or export "
                f"it again where {here} is installed; else {report.remedy}"
            )
            return replace(report, remedy=remedy)
    return report


def _unusable(name: str, reason: str | None, remedy: str | None) -> BackendMissingError:
    return BackendMissingError(
        f"{name} cannot be used here: {reason}", remedy=remedy or "leave it out"
    )


def _run(
    bundle: Bundle,
    name: str,
    samples: Sequence[Golden],
    options: Options,
    thresholds: Thresholds,
) -> BackendReport:
    artefact = bundle.artefact(name)
    reduced = bundle.manifest.reduced_precision(artefact)
    report = BackendReport(name, artefact.stored.file, "pass", reduced=reduced)
    available = probe(name, options.device)
    if not available.usable:
        return replace(report, outcome="unusable", reason=available.reason, remedy=available.remedy)
    try:
        with bundle.open(name, options) as session:
            engine = session.engine
            if engine.precision == "tf32" and reduced is None:
                report = replace(report, reduced="tf32")
            verdicts = check_session(session, samples, thresholds, report.reduced)
            if engine.device.startswith("cuda"):
                found = repeat(session, samples, verdicts, report.reduced)
                report = replace(report, repeats=found)
    except (BackendMissingError, OutOfMemoryError) as e:  # what only opening and running tells
        return replace(report, outcome="unusable", reason=e.problem, remedy=e.remedy)
    except EdgeportError as e:
        return replace(report, outcome="fail", reason=e.problem, remedy=e.remedy)
    return replace(report, engine=engine, verdicts=verdicts)


def _run_apart(
    limits: Limits,
    bundle: Bundle,
    name: str,
    samples: Sequence[Golden],
    options: Options,
    thresholds: Thresholds,
) -> BackendReport:
    """The same in a child process, which gets a private copy whose hash was checked here."""
    artefact = bundle.artefact(name)
    if BACKENDS[name].extra == "torch" and options.threads is None:
        options = replace(options, threads=1)  # see safety.forked
    if not probe(
        name, options.device
    ).usable:  # also: its library is imported here, once for all children
        return _run(bundle, name, samples, options, thresholds)
    with bundle.private(artefact) as path:
        held = replace(bundle, copies={artefact.format: path})
        try:
            answer = run_limited(
                lambda: to_json(_run(held, name, samples, options, thresholds)),
                limits,
                gpu=BACKENDS[name].on_gpu(options.device),
            )
            return from_json(BackendReport, answer)
        except EngineError as e:
            outcome: Outcome = "unusable" if isinstance(e, OutOfMemoryError) else "fail"
            return BackendReport(name, artefact.stored.file, outcome, e.problem, e.remedy)
        except ValueError as e:
            remedy = "don't use this artefact with this backend"
            reason = f"the process that ran the artefact answered something else: {e}"
            return BackendReport(name, artefact.stored.file, "fail", reason, remedy)


def _answer(session: Session, sample: Golden) -> Mapping[str, Array]:
    signature = session.signature
    try:
        outputs = session.run(sample.inputs)
        if set(outputs) != set(sample.eager):
            raise EngineError(
                f"the outputs are {', '.join(outputs)}, the module gives {', '.join(sample.eager)}",
                remedy="export the model again",
            )
        shapes = [sample.inputs[spec.name].shape for spec in signature.inputs]
        check_outputs(signature, shapes, outputs)  # a session does it once for each shape
    except (EngineError, InputError) as e:
        kind = OutOfMemoryError if isinstance(e, OutOfMemoryError) else EngineError
        raise kind(f"sample {sample.name!r}: {e.problem}", remedy=e.remedy) from e
    return outputs


def output_facts(samples: Sequence[Golden]) -> tuple[OutputFacts, ...]:
    """What the samples can prove about each output; edge cases only where there are no others."""
    usual = [sample for sample in samples if sample.kind != "edge"] or samples
    return tuple(
        OutputFacts(
            name,
            uninformative([sample.eager[name] for sample in samples]),
            max(_zeros_ratio(name, sample) for sample in usual),
        )
        for name in samples[0].eager
    )


def dead_outputs(samples: Sequence[Golden], thresholds: Thresholds) -> list[OutputFacts]:
    """Outputs that prove nothing: they never change, or zeros would pass for them."""
    return [facts for facts in output_facts(samples) if facts.proves_nothing(thresholds)]


def _zeros_ratio(name: str, sample: Golden) -> float:
    """Of an answer of zeros; infinite for integers, which are judged without a floor."""
    eager = sample.eager[name]
    if eager.dtype.kind != "f":
        return math.inf
    return sample.measure(name, np.zeros_like(eager)).ratio
