"""Why an artefact failed, in words that a person can act on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.report import OutputFacts, why_nothing
from edgeport.runtimes.parity.thresholds import Precision, Thresholds
from edgeport.runtimes.parity.verdict import Verdict
from edgeport.runtimes.session import EngineInfo

if TYPE_CHECKING:
    from torch import nn


_WHAT: Final = {
    "oracle": "the module's own distance from float64",
    "float32": "8 ulp, because the module does not run in float64",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What one backend did with an artefact.

    Attributes:
        dead: Outputs that the samples prove nothing about.
        answers: Of the first sample that it failed on.
        refusal: Why it did not answer at all.
        reduced: What it computes in, where that is narrower than the module's precision.
    """

    backend: str
    engine: EngineInfo
    golden: Sequence[Golden]
    verdicts: tuple[Verdict, ...]
    dead: Sequence[OutputFacts] = ()
    answers: Mapping[str, Array] | None = None
    refusal: str | None = None
    reduced: Precision | None = None

    @property
    def failed(self) -> list[Verdict]:
        """Its failures."""
        return [verdict for verdict in self.verdicts if verdict.status == "fail"]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and what to do."""

    text: str
    remedy: str


def explain(
    module: "nn.Module", artefact: Path, checked: Sequence[Checked], thresholds: Thresholds
) -> Problem | None:
    """The first failure in words; nothing if there is none."""
    name = type(module).__name__
    bad = next((each for each in checked if each.refusal or each.failed), None)
    if bad is None:
        dead = next((each for each in checked if each.dead), None)
        if dead is None:
            return None
        return Problem(
            f"{artefact.name} is not proved: {why_nothing(dead.dead)}",
            "give samples that make it vary, or allow it: thresholds=Thresholds("
            f"constant_outputs={tuple(facts.name for facts in dead.dead)!r})",
        )
    title = f"{artefact.name} does not compute what {name} computes"
    lines = [title, "", *_rows(_where(bad, thresholds))]
    if module.training:
        lines += ["", f"{name} was in training mode; its eval mode is what was compared"]
    return Problem("\n".join(lines), _remedy(bad, checked))


def _rows(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"  {key:<{width}}  {value}" for key, value in rows.items()]


def _where(bad: Checked, thresholds: Thresholds) -> dict[str, str]:
    engine = f"{bad.backend} ({bad.engine.engine} {bad.engine.version})"
    if bad.refusal:
        return {"backend": engine, "problem": bad.refusal}
    worst = bad.failed[0]
    figures = worst.figures
    rows = {"output": worst.output, "sample": worst.sample, "backend": engine}
    if figures.mismatch or figures.rule == "exact" or bad.reduced:
        rows["problem"] = worst.reason
    else:
        rows["ratio"] = (
            f"{figures.ratio:.3g} times the noise floor, {thresholds.max_ratio:g} allowed"
        )
        rows["error"] = f"rms {figures.error_rms:.2g}, max {figures.error_max:.2g}"
        floor = f"rms {figures.floor_rms:.2g}, max {figures.floor_max:.2g}"
        rows["floor"] = f"{floor}: {_WHAT[figures.rule]}"
    if not figures.mismatch:
        rows["worst"] = _values(bad, worst)
    if figures.flips:
        rows["decisions"] = f"{figures.flips} of {figures.decisions} differ (argmax)"
    rows["failed"] = f"{len(bad.failed)} of {len(bad.verdicts)} comparisons"
    return rows


def _values(bad: Checked, worst: Verdict) -> str:
    """The three answers at the worst place."""
    sample = next(each for each in bad.golden if each.name == worst.sample)
    place = worst.figures.worst_index
    eager = sample.eager[worst.output]
    own = f"the module gives {_at(eager, place)}"
    oracle = sample.oracle.get(worst.output)
    wide = "" if oracle is None else f" (in float64 {_at(oracle, place)})"
    answer = (bad.answers or {}).get(worst.output)
    theirs = "" if answer is None else f", the artefact {_at(answer, place)}"
    return f"at {list(place)}: {own}{wide}{theirs}"


def _at(array: Array, place: tuple[int, ...]) -> str:
    value = array[place]
    return f"{value:.9g}" if np.issubdtype(array.dtype, np.floating) else str(value)


def _remedy(bad: Checked, checked: Sequence[Checked]) -> str:
    again = "edgeport export proves a file before it is written, and names the layer if it can't"
    others = {each.backend: each for each in checked}
    written = others.get(f"{bad.backend}, graph as written")
    if written is not None and not written.failed and not written.refusal:
        return (
            "the graph as it was written passes, so that the engine's optimiser is to blame: try "
            "another version of it, or another opset"
        )
    if bad.backend.endswith("graph as written"):
        return (
            "it passes only once the engine has optimised it, which can hide a Dropout: export the "
            f"module in eval mode; {again}"
        )
    failed = {verdict.sample for verdict in bad.failed}
    if bad.verdicts and len(failed) < len(bad.golden):
        right = next(each.name for each in bad.golden if each.name not in failed)
        return f"it is right on {right}: a size or a branch of the example may be baked in; {again}"
    return f"make it again, from these weights and in eval mode; {again}"
