"""What every backend did with a bundle, as data: written as JSON, read back, judged again.

``report.schema.json`` beside this file is the published schema.
"""

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

from edgeport.runtimes.errors import EdgeportError, FormatError
from edgeport.runtimes.formats import records
from edgeport.runtimes.formats.records import Count, Size
from edgeport.runtimes.formats.strict_json import expect, parse
from edgeport.runtimes.session import EngineInfo

from .repeats import Repeats
from .thresholds import Precision, Thresholds
from .verdict import Verdict, judge, judge_together

REPORT_VERSION: Final = 3

_ELSEWHERE: Final = "don't use this artefact with this backend; export the model again"
_ON_GPU: Final = (
    "use another backend on this GPU; docs/gpu.md has the kernels that are known to be less exact "
    "or wrong, and --max-ratio accepts what is less exact"
)

Outcome = Literal["pass", "fail", "uninformative", "unusable"]


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """Whether the samples can tell a right answer of one output from a wrong one.

    Attributes:
        constant: It is the same on every sample, or in every row of them.
        zeros_ratio: The ratio of an answer of zeros, on the sample where it is largest; infinity
            where zeros would never do: for integers, bools, and other places of a NaN or Inf.
    """

    name: str
    constant: bool
    zeros_ratio: Size

    def proves_nothing(self, thresholds: Thresholds) -> bool:
        """Whether a backend that answers zeros, or always the same, would pass."""
        return self.name not in thresholds.constant_outputs and (
            self.constant or self.zeros_ratio <= thresholds.ratio_of(self.name)
        )


@dataclass(frozen=True, slots=True)
class BackendReport:
    """What one backend did with its artefact.

    Attributes:
        outcome: ``unusable`` where the backend cannot be used here: neither right nor wrong.
        reason: Why it is not ``pass``.
        remedy: What to do about it.
        reduced: The artefact's precision, where it is narrower than the module's.
        engine: What was really in use; ``None`` if nothing could be opened.
        verdicts: One per sample and output.
        repeats: Whether the same input has the same answer, of an engine on a GPU.
    """

    backend: str
    file: str
    outcome: Outcome
    reason: str | None = None
    remedy: str | None = None
    reduced: Precision | None = None
    engine: EngineInfo | None = None
    verdicts: tuple[Verdict, ...] = ()
    repeats: Repeats | None = None

    @property
    def failures(self) -> tuple[Verdict, ...]:
        """The verdicts that failed."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "fail")

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        plain: dict[str, Any] = records.to_json(self)
        return plain

    def judged(self, outputs: Sequence[OutputFacts], thresholds: Thresholds) -> "BackendReport":
        """The same figures under these thresholds; one that ran nothing stays as it is."""
        if not self.verdicts:
            return self
        verdicts = [
            judge(v.output, v.sample, v.figures, thresholds, kind=v.kind, reduced=self.reduced)
            for v in self.verdicts
        ]
        verdicts = judge_together(verdicts, thresholds, self.reduced)
        dead = [facts for facts in outputs if facts.proves_nothing(thresholds)]
        return _concluded(replace(self, verdicts=tuple(verdicts)), dead, thresholds)

    def passes_by_default(self) -> bool:
        """Whether no comparison fails by the bars that nobody asked for."""
        return not self.judged((), Thresholds()).failures


def _remedy(report: BackendReport, thresholds: Thresholds) -> str:
    usual = Thresholds(constant_outputs=thresholds.constant_outputs)
    if thresholds != usual and report.passes_by_default():
        return "it passes with the default bars (docs/parity.md): ask for less, or change the model"
    return _ON_GPU if report.engine and "cuda" in report.engine.device else _ELSEWHERE


def _concluded(
    report: BackendReport, dead: Sequence[OutputFacts], thresholds: Thresholds
) -> BackendReport:
    if report.failures:
        return replace(
            report,
            outcome="fail",
            reason=f"{len(report.failures)} of {len(report.verdicts)} comparisons failed",
            remedy=_remedy(report, thresholds),
        )
    if report.repeats is not None and (problem := report.repeats.problem(thresholds)):
        return replace(
            report,
            outcome="fail",
            reason=problem,
            remedy="don't use this artefact with this backend here; whether it is the model or the "
            "GPU, another backend on it tells",
        )
    if dead:
        return replace(
            report,
            outcome="uninformative",
            reason=why_nothing(dead),
            remedy="export with --samples that make it vary, or allow it: --constant-output NAME",
        )
    return replace(report, outcome="pass", reason=None, remedy=None)


def why_nothing(dead: Sequence[OutputFacts]) -> str:
    """Say of outputs why a right answer of them cannot be told from a wrong one."""
    constant = ", ".join(facts.name for facts in dead if facts.constant)
    drowned = ", ".join(facts.name for facts in dead if not facts.constant)
    reasons = [f"output {constant} is the same on every sample"] * bool(constant)
    reasons += [f"output {drowned} is drowned in its rounding error"] * bool(drowned)
    return f"{' and '.join(reasons)}, which proves nothing"


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What every backend did with a bundle."""

    name: str
    samples: Count
    thresholds: Thresholds
    backends: tuple[BackendReport, ...]
    outputs: tuple[OutputFacts, ...] = ()

    DERIVED: ClassVar = ("report_version", "passed")

    def __repr__(self) -> str:
        """Short: a prompt of Python shows what it is given, and all figures take 40 kB."""
        outcomes = ", ".join(f"{each.backend} {each.outcome}" for each in self.backends)
        return f"Report({self.name!r}, {self.samples} samples: {outcomes})"

    @property
    def report_version(self) -> int:
        """Of the JSON."""
        return REPORT_VERSION

    @property
    def passed(self) -> bool:
        """At least one backend passed, and none that is usable here did anything else."""
        outcomes = {report.outcome for report in self.backends}
        return "pass" in outcomes and outcomes <= {"pass", "unusable"}

    @property
    def nothing_ran(self) -> bool:
        """No backend is usable here, so nothing is known."""
        return all(report.outcome == "unusable" for report in self.backends)

    def judged(self, thresholds: Thresholds) -> "Report":
        """The same figures under these thresholds: nothing is run.

        Raises:
            UsageError: A threshold is for an output that is not there.
        """
        thresholds.check_outputs([facts.name for facts in self.outputs])
        backends = (report.judged(self.outputs, thresholds) for report in self.backends)
        return replace(self, thresholds=thresholds, backends=tuple(backends))

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``: finite, and as ``report.schema.json`` says."""
        plain: dict[str, Any] = records.to_json(self)
        return plain

    @classmethod
    def loads(cls, text: str | bytes, file: str) -> "Report":
        """Read what ``to_json`` gave.

        Args:
            text: The JSON.
            file: What to call it in an error.

        Raises:
            FormatError: Not JSON, no such report, or of another version of edgeport.
        """
        try:
            value = _upgraded(expect(dict, parse(text), "it"))
            _check_version(value.get("report_version"))
            return records.from_json(cls, value)
        except EdgeportError as e:  # first: most of them are ValueErrors too
            raise FormatError(f"{file}: {e.problem}", remedy=e.remedy) from e
        except ValueError as e:
            raise FormatError(
                f"{file} is no report of edgeport verify: {e}",
                remedy="make one: edgeport verify NAME.edge --json > verdicts.json",
            ) from e


def _upgraded(value: dict[str, Any]) -> dict[str, Any]:
    """A report of version 2, which knew no GPU, as one of version 3."""
    if value.get("report_version") != 2:
        return value
    backends = []
    for told in expect(list, value.get("backends"), "backends"):
        backend = expect(dict, told, "a backend")
        engine = backend.get("engine")
        if isinstance(engine, dict):
            backend = {**backend, "engine": {**engine, "cpu_nodes": []}}
        backends.append({**backend, "repeats": None})
    return {**value, "report_version": REPORT_VERSION, "backends": backends}


def _check_version(version: object) -> None:
    if expect(int, version, "report_version") != REPORT_VERSION:
        raise FormatError(
            f"it has report version {reprlib.repr(version)}, this edgeport reads {REPORT_VERSION}",
            remedy="make it again: edgeport verify NAME.edge --json > verdicts.json",
        )
