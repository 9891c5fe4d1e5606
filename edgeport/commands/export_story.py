"""The story of an export: shown while it runs, and written as ``--report`` however it ends."""

import json
import math
import platform
import re
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from edgeport import __version__
from edgeport.commands.export_page import page
from edgeport.commands.terminal import Colour, coloured, note
from edgeport.commands.terminal import Progress as Bar
from edgeport.runtimes import EdgeportError, StorageError, files
from edgeport.runtimes.parity.thresholds import narrower

if TYPE_CHECKING:
    from edgeport.deploy import Attempt, Event, Export, Request, Searched, Source
    from edgeport.runtimes.bundles.manifest import Artefact

REPORT_VERSION: Final = 1

_COLOURS: dict[str, Colour] = {
    "proved": "green",
    "built": "yellow",
    "wrong": "red",
    "ended": "red",
}
_STEP: Final = len("onnx: int8 symmetric products")
"""Signs of the longest name of a step."""

_PACKAGES: Final = (
    "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "tensorrt", "tensorrt_rtx",
)  # fmt: skip  # one line


class Story:
    """Collects what happens; a context manager, so that a failure is written too."""

    def __init__(self, output: Path, report: Path | None, request: "Request") -> None:
        self._report = report
        self._visible = sys.stderr.isatty()
        self._start = time.perf_counter()
        self._bar = Bar("", 1)
        self._told: dict[str, Any] = {
            "export_report_version": REPORT_VERSION,
            "bundle": output.name,
            "passed": False,
            "error": None,
            "asked": _request_to_json(request),
            "module": None,
            "signature": None,
            "notes": [],
            "steps": [],
            "searches": [],
            "scores": [],
            "attempts": [],
            "localisation": None,
            "artefacts": [],
            "parity": None,
            "versions": _versions(),
            "wall_s": 0.0,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the report.

        Raises:
            StorageError: It cannot be written, and the export itself did not fail.
        """
        self._clear()
        self._told["wall_s"] = time.perf_counter() - self._start
        if error is not None:
            self._told["passed"] = False
            self._told["error"] = _error_to_json(error)
        if self._report is not None:
            self._write(self._report, error)

    def tell_source(self, source: "Source") -> None:
        """Say what is compiled, and what was changed in it."""
        self._told["module"] = type(source.module).__name__
        self._told["signature"] = source.signature.to_json()
        self._say_notes(source.notes)

    def tell(self, event: "Event") -> None:
        """Show a step, and keep it."""
        from edgeport.deploy import Began, Ended, Localisation, Progress, Searched

        match event:
            case Began(step):
                self._begin(step)
            case Ended(step, wall_s):
                self._told["steps"].append({"step": step, "wall_s": wall_s})
                self._line(f"  {step:<{_STEP}}{wall_s:6.1f} s")
            case Progress(done, stage):
                self._bar.update(round(100 * done), stage.lower(), 100)
            case Searched():
                self._told["searches"].append(_search_to_json(event))
                self._line(_search_line(event))
            case Localisation():
                self._told["localisation"] = event.to_json()
            case _:
                self._told["attempts"].append(_attempt_to_json(event))
                self._line(_attempt_line(event))

    def tell_end(self, made: "Export") -> None:
        """Keep the proof, and say what it leaves open."""
        self._told["passed"] = True
        self._told["parity"] = made.report.to_json()
        self._told["scores"] = [score.to_json() for score in made.scores]
        self._told["artefacts"] = [_artefact_to_json(a) for a in made.bundle.manifest.artefacts]
        self._say_notes(made.notes)

    def _say_notes(self, notes: Sequence[str]) -> None:
        for text in notes:
            if text not in self._told["notes"]:
                self._told["notes"].append(text)
                note(f"{coloured('note', 'yellow', sys.stderr)}: {text}")

    def _begin(self, step: str) -> None:
        self._bar = Bar(f"  {step}", 100)
        if self._visible:
            print(f"  {step} …", end="", file=sys.stderr, flush=True)

    def _line(self, text: str) -> None:
        self._clear()
        note(text)

    def _clear(self) -> None:
        self._bar.clear()

    def _write(self, report: Path, error: BaseException | None) -> None:
        try:
            with files.parents(report):
                files.write(report, self._text(report))
            note(f"report: {report}")
            if isinstance(error, KeyboardInterrupt):
                error.add_note("nothing but the report was written")
        except BaseException as e:  # Ctrl-C too: why the export failed matters more
            if error is not None:
                note(f"the report was not written: {getattr(e, 'problem', type(e).__name__)}")
            elif isinstance(e, StorageError):
                remedy = "the bundle is complete; choose another place with --report next time"
                raise type(e)(e.problem, remedy=remedy) from e
            else:
                raise

    def _text(self, report: Path) -> str:
        told = _without_folders(self._told)
        if report.suffix == ".html":
            return page(told)
        return json.dumps(told, indent=1, allow_nan=False) + "\n"


def _request_to_json(request: "Request") -> dict[str, Any]:
    known = narrower(request.precision or "", "float32")
    return {
        "formats": list(request.formats),
        "opset": request.opset,
        "target": request.target and request.target.name,
        "precision": request.precision,
        "max_ratio": request.thresholds.max_ratio,
        "max_ratios": dict(request.thresholds.outputs),
        "min_signal_db": known and request.thresholds.bar_of(known).min_snr_db,
        "constant_outputs": list(request.thresholds.constant_outputs),
    }


def _versions() -> dict[str, str]:
    """Of all that has a hand in an artefact and is installed."""
    versions = {"edgeport": __version__, "python": platform.python_version()}
    installed = {d.name: d.version for d in map(_distribution, _PACKAGES) if d is not None}
    return {**versions, **installed}


def _distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:  # onnxruntime-gpu stands in for onnxruntime
        return None


def _error_to_json(error: BaseException) -> dict[str, str]:
    kind = type(error).__name__
    if isinstance(error, EdgeportError):
        return {"kind": kind, "problem": error.problem, "remedy": error.remedy}
    if isinstance(error, KeyboardInterrupt):
        return {"kind": kind, "problem": "interrupted", "remedy": "start it again"}
    problem = f"{kind}: {error}".rstrip(": ")
    return {"kind": kind, "problem": problem, "remedy": "see where it comes from with --debug"}


def _attempt_line(attempt: "Attempt") -> str:
    outcome = attempt.outcome
    mark = coloured(outcome, _COLOURS.get(outcome, "dim"), sys.stderr)
    why = f": {attempt.diagnosis.problem}" if attempt.diagnosis else ""
    wall_s = attempt.compile_s + attempt.proof_s
    return f"  {f'{attempt.format}: {attempt.route}':<{_STEP}}{wall_s:6.1f} s  {mark}{why}"


def _attempt_to_json(attempt: "Attempt") -> dict[str, Any]:
    return {
        "format": attempt.format,
        "route": attempt.route,
        "outcome": attempt.outcome,
        "compile_s": attempt.compile_s,
        "proof_s": attempt.proof_s,
        "diagnosis": attempt.diagnosis and attempt.diagnosis.to_json(),
        "backends": [report.to_json() for report in attempt.reports],
    }


def _search_line(event: "Searched") -> str:
    unit = "dB over noise" if event.unit == "dB" else "floors"
    apart = f"; {event.left_out:,} more left the ranges of int8" if event.left_out else ""
    return (
        f"  {f'search, {event.backend}':<{_STEP}}{event.worst:8.3g}  {unit} at worst in "
        f"{event.steps:,} inputs; {event.usual:.3g} on the samples{apart}"
    )


def _search_to_json(event: "Searched") -> dict[str, Any]:
    return {
        "backend": event.backend,
        "usual": event.usual if math.isfinite(event.usual) else None,  # no noise at all
        "worst": event.worst if math.isfinite(event.worst) else None,
        "unit": event.unit,
        "steps": event.steps,
        "left_out": event.left_out,
    }


def _artefact_to_json(artefact: "Artefact") -> dict[str, Any]:
    return {
        "format": artefact.format,
        "file": artefact.stored.file,
        "size_bytes": artefact.size_bytes,
        "sha256": artefact.stored.sha256,
        "precision": artefact.precision,
        "details": dict(artefact.details),
        "proved": artefact.proved,
    }


def _without_folders(value: Any) -> Any:
    """Shorten the folders of this machine, which a compiler or engine may have put in its words."""
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    for folder, short in ((Path.cwd(), "."), (Path(sys.prefix), "(python)"), (Path.home(), "~")):
        if folder != Path(folder.anchor):
            value = re.sub(rf"(?<![\w.~-]){re.escape(str(folder))}(?![\w.-])", short, value)
    return value
