"""When a format is not proved: have the localiser look, in a process of its own, for a while."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from edgeport.deploy.compilers.upstream import quiet
from edgeport.deploy.proof.localiser import Localisation, choose_sample, localise
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import EdgeportError
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.parity.report import BackendReport
from edgeport.runtimes.parity.thresholds import Thresholds

from .attempts import Attempt
from .isolation import Killed, Limits, run_isolated

LONGEST_S: Final = 300.0
"""The failure is known already: nobody waits longer to hear where it is."""


def locate(
    source: Source,
    golden: Sequence[Golden],
    failed: Attempt,
    thresholds: Thresholds,
    limits: Limits,
    repro: Path | None = None,
) -> Localisation | str:
    """Find where a wrong artefact leaves the module.

    Args:
        source: What was compiled.
        golden: All samples.
        failed: An attempt whose outcome is ``wrong``.
        thresholds: Where the verdict turned.
        limits: Of one compiler.
        repro: As in ``localise``.

    Returns:
        What was found; why nothing was, if so. It never raises: why the export failed matters
        more.
    """
    if failed.kept is None or failed.compiled is None:
        return "no wrong artefact was kept"
    report = next(report for report in failed.reports if report.outcome != "pass")
    sample = choose_sample(golden, report.verdicts) or _sample_of_error(golden, report)
    if sample is None:
        return "no sample failed" if report.verdicts else "the file does not open"
    work = partial(
        quiet()(localise),
        source,
        failed.kept / failed.compiled.artefact.stored.file,
        sample,
        backend=report.backend,
        debug_map=failed.compiled.debug_map,
        thresholds=thresholds,
        repro=repro,
    )
    try:
        found = run_isolated(work, replace(limits, time_s=min(limits.time_s, LONGEST_S)))
    except EdgeportError as e:
        return e.problem.partition("\n")[0]
    return found.problem if isinstance(found, Killed) else found


def _sample_of_error(golden: Sequence[Golden], report: BackendReport) -> Golden | None:
    """The sample that an engine failed on; its message names it."""
    reason = report.reason or ""
    return next((g for g in golden if reason.startswith(f"sample {g.name!r}: ")), None)
