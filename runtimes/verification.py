"""Ask every engine of this machine whether it computes what the module computed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from .bundle import Bundle
from .errors import BackendMissingError, EdgeportError, EngineError, InputError, UsageError
from .golden import Golden
from .parity import Figures, Verdict, judge, measure, pool_floors, uninformative
from .session import EngineInfo, Options, Session, probe
from .thresholds import EDGE_LENIENCY, LARGEST_MAX_RATIO, Thresholds

REPORT_VERSION: Final = 1

Outcome = Literal["pass", "fail", "uninformative", "unusable"]


@dataclass(frozen=True, slots=True)
class BackendReport:
    """What one backend did with its artefact.

    Attributes:
        outcome: ``unusable`` where the backend cannot be used here: neither right nor wrong.
        reason: Why it is not ``pass``.
        remedy: What to do about it.
        engine: What was really in use; ``None`` if nothing could be opened.
        verdicts: One per sample and output.
    """

    backend: str
    file: str
    outcome: Outcome
    reason: str | None = None
    remedy: str | None = None
    engine: EngineInfo | None = None
    verdicts: tuple[Verdict, ...] = ()

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The verdicts that failed."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "fail")

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return {
            "backend": self.backend,
            "file": self.file,
            "outcome": self.outcome,
            "reason": self.reason,
            "remedy": self.remedy,
            "engine": None if self.engine is None else asdict(self.engine),
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What every backend did with a bundle."""

    name: str
    samples: int
    thresholds: Thresholds
    backends: tuple[BackendReport, ...]

    @property
    def passed(self) -> bool:
        """At least one backend passed, and none that is usable here did anything else."""
        outcomes = {report.outcome for report in self.backends}
        return "pass" in outcomes and outcomes <= {"pass", "unusable"}

    @property
    def nothing_ran(self) -> bool:
        """No backend is usable here, so nothing is known."""
        return all(report.outcome == "unusable" for report in self.backends)

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``; the schema is versioned."""
        return {
            "report_version": REPORT_VERSION,
            "name": self.name,
            "passed": self.passed,
            "samples": self.samples,
            "max_ratio": self.thresholds.max_ratio,
            "backends": [report.to_json() for report in self.backends],
        }


def verify(
    bundle: Bundle,
    backends: Sequence[str] | None = None,
    *,
    threads: int | None = None,
    optimize: bool = True,
) -> Report:
    """Check every hash, then repeat the golden samples on every backend that is usable here.

    Args:
        bundle: What to verify.
        backends: Only these; ``None`` for all that fit the bundle.
        threads: As in ``Options``.
        optimize: As in ``Options``.

    Raises:
        MissingFileError: A file of the bundle is not there.
        IntegrityError: A file is not the one that was packed.
        FormatError: The golden samples are damaged.
        UsageError: A backend does not exist or does not fit the bundle.
        BackendMissingError: A backend that was asked for by name cannot be used here.
    """
    for name in backends or ():
        _require_usable(bundle, name)
    bundle.check_files()
    samples = bundle.golden()
    if not samples:
        raise UsageError(
            f"{bundle.path} holds no golden samples, so it cannot prove anything",
            remedy="export the model again",
        )
    thresholds = bundle.manifest.thresholds
    dead = dead_outputs(samples, thresholds)
    options = Options(threads=threads, optimize=optimize)
    reports = [
        _verify_backend(bundle, name, samples, dead, options)
        for name in backends or bundle.backends
    ]
    return Report(bundle.manifest.name, len(samples), thresholds, tuple(reports))


def check_session(
    session: Session, samples: Sequence[Golden], thresholds: Thresholds
) -> tuple[Verdict, ...]:
    """Run the samples through an open session and judge every output.

    Raises:
        EngineError: The engine failed on a sample, or answered with other outputs.
    """
    measured = [_measure_sample(session, sample) for sample in samples]
    usual = [index for index, sample in enumerate(samples) if sample.kind != "edge"]
    for name in {name for sample in samples for name in sample.eager}:
        pooled = pool_floors([measured[index][name] for index in usual])
        for index, figures in zip(usual, pooled, strict=True):
            measured[index][name] = figures
    largest = min(thresholds.max_ratio * EDGE_LENIENCY, LARGEST_MAX_RATIO)
    lenient = replace(thresholds, max_ratio=largest)
    return tuple(
        judge(name, sample.name, figures, lenient if sample.kind == "edge" else thresholds)
        for sample, outputs in zip(samples, measured, strict=True)
        for name, figures in outputs.items()
    )


def _require_usable(bundle: Bundle, name: str) -> None:
    bundle.artefact(name)
    available = probe(name)
    if not available.usable:
        raise BackendMissingError(
            f"{name} cannot be used here: {available.reason}",
            remedy=available.remedy or "leave it out",
        )


def _verify_backend(
    bundle: Bundle, name: str, samples: Sequence[Golden], dead: Sequence[str], options: Options
) -> BackendReport:
    report = BackendReport(name, bundle.artefact(name).stored.file, "pass")
    available = probe(name)
    if not available.usable:
        return replace(report, outcome="unusable", reason=available.reason, remedy=available.remedy)
    try:
        with bundle.open(name, options) as session:
            engine = session.engine
            verdicts = check_session(session, samples, bundle.manifest.thresholds)
    except EdgeportError as e:
        return replace(report, outcome="fail", reason=e.problem, remedy=e.remedy)
    return conclude(replace(report, engine=engine), verdicts, dead)


def conclude(
    report: BackendReport, verdicts: tuple[Verdict, ...], dead: Sequence[str]
) -> BackendReport:
    """Say what verdicts come to.

    Args:
        report: Of the engine that gave the answers.
        verdicts: One per sample and output.
        dead: Outputs that prove nothing.
    """
    report = replace(report, verdicts=verdicts)
    if report.failures:
        return replace(
            report,
            outcome="fail",
            reason=f"{len(report.failures)} of {len(verdicts)} comparisons failed",
            remedy="don't use this artefact with this backend; export the model again",
        )
    if dead:
        return replace(
            report,
            outcome="uninformative",
            reason=f"output {', '.join(dead)} is the same on every sample, or drowned in its "
            "rounding error, so it proves nothing",
            remedy="export with --samples that make it vary, or allow it: --constant-output NAME",
        )
    return report


def _measure_sample(session: Session, sample: Golden) -> dict[str, Figures]:
    try:
        outputs = session.run(sample.inputs)
    except (EngineError, InputError) as e:
        raise EngineError(f"sample {sample.name!r}: {e.problem}", remedy=e.remedy) from e
    if set(outputs) != set(sample.eager):
        raise EngineError(
            f"the outputs are {', '.join(outputs)}, the module gives {', '.join(sample.eager)}",
            remedy="export the model again",
        )
    return {
        name: measure(outputs[name], eager, sample.oracle.get(name))
        for name, eager in sample.eager.items()
    }


def dead_outputs(samples: Sequence[Golden], thresholds: Thresholds) -> list[str]:
    """Outputs that prove nothing: they never change, or zeros would pass for them."""
    usual = [sample for sample in samples if sample.kind != "edge"] or samples
    return [
        name
        for name in samples[0].eager
        if name not in thresholds.constant_outputs
        and (
            uninformative([sample.eager[name] for sample in samples])
            or all(_zeros_pass(name, sample, thresholds) for sample in usual)
        )
    ]


def _zeros_pass(name: str, sample: Golden, thresholds: Thresholds) -> bool:
    """Whether zeros would pass: the floats are zero, none, or no larger than their own noise."""
    eager = sample.eager[name]
    figures = measure(np.zeros_like(eager), eager, sample.oracle.get(name))
    return figures.rule != "exact" and judge(name, "", figures, thresholds).status == "pass"
