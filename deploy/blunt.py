"""Narrower files that do not tell inputs apart: put aside, taken after all, or told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from edgeport.deploy.diagnosis.diagnose import Diagnosis
from edgeport.deploy.diagnosis.remedies import Family
from edgeport.deploy.proof.variation import Variation, variation
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import EdgeportError
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.parity.thresholds import Precision, Thresholds

from .attempts import Attempt, bring_back, keep
from .isolation import Killed, run_isolated
from .request import Request

_UNCHANGING: Final = (
    "or return what changes alone, what is of another size by a layer of its own, and add or join "
    "them behind the artefact"
)


def variation_of(
    made: Attempt, seen: Attempt | None, golden: Sequence[Golden], folder: Path, request: Request
) -> Variation:
    """Of the file, or of the one that rounds each value; nothing, if it does not run so."""
    rounded = seen is not None and seen.outcome == "proved"
    asked, place = (seen, seen.kept) if seen is not None and rounded else (made, folder)
    if asked.compiled is None or place is None:
        return Variation()
    path = place / asked.compiled.artefact.stored.file
    constant = request.thresholds.constant_outputs
    try:
        found = run_isolated(partial(variation, path, golden, constant), request.limits)
    except EdgeportError:  # as of a size that the bare file takes, and the session does not
        return Variation()
    return Variation() if isinstance(found, Killed) else found


def put_aside(
    made: Attempt, found: Variation, folder: Path, wider: str, blunt: list[Attempt]
) -> Attempt:
    """Put aside a file that does not tell inputs apart: another way may."""
    if made.compiled is None:
        raise ValueError("proved, and nothing was compiled")
    blunt.append(replace(made, kept=keep(made.compiled, folder, made.route)))
    allowed = "".join(f", or allow it with --constant-output {name}" for name in [*found.lost][:1])
    told = Diagnosis(
        family=Family.PARITY,
        problem=(*found.lost.values(), *found.parts)[0],
        remedy=f"give --samples in which it changes more{allowed}, {_UNCHANGING}, or {wider}",
    )
    return replace(blunt[-1], outcome="wrong", diagnosis=told)


def least_blunt(
    blunt: Sequence[Attempt],
    varied: Mapping[str, Variation],
    source: Source,
    folder: Path,
    ended: Callable[[Attempt], None],
) -> list[Attempt]:
    """The first of these files after all: with parts of an output lost, or samples too alike.

    None if nothing is left of a whole output on real samples.
    """
    for found in blunt:
        whole = source.real and varied[found.route].lost
        if not whole and found.kept is not None and found.compiled is not None:
            bring_back(found.compiled, folder, found.kept)
            ended(kept := replace(found, kept=None))
            return [kept]
    return []


def left_of(found: Variation, precision: Precision, thresholds: Thresholds) -> list[str]:
    """Sentences on what is left of that which changes from input to input, where it is little."""
    told = [
        *(f"{each} on drawn inputs: give --samples" for each in found.lost.values()),
        *(f"{each}: compute what is of another size by a layer of its own" for each in found.parts),
    ]
    bar = thresholds.bar_of(precision).min_snr_db
    told += [
        f"the signal of what changes in {name} from input to input is {kept:.3g} dB above the noise"
        for name, kept in found.kept_db.items()
        if 0 < kept < bar
    ]
    return [f"{precision}: {each}" for each in told]


def far_off(proved: Attempt, thresholds: Thresholds) -> list[str]:
    """A sentence on edge cases in int8 that owe their structure alone, and keep no more."""
    bar = thresholds.bar_of("int8").min_snr_db
    far = [
        verdict
        for verdict in proved.reports[0].verdicts
        if verdict.kind == "edge"
        and not verdict.figures.mismatch
        and (verdict.figures.rule == "exact" or verdict.figures.snr_db < bar)
        and verdict.figures.error_max
    ]
    if not far:
        return []
    samples, outputs = (
        ", ".join(dict.fromkeys(names))
        for names in ((each.sample for each in far), (each.output for each in far))
    )
    return [f"int8: edge cases owe no signal; far from the module: {outputs} on {samples}"]
