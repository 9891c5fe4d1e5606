"""What lies in the bundle beside the artefacts: golden samples, the report, and the manifest."""

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import onnx
import safetensors.numpy
import torch

from edgeport import __version__
from edgeport.deploy.compilers.stored import store
from edgeport.deploy.proof.trial import Trial
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Report, files
from edgeport.runtimes.bundles.golden import Golden, to_tensors
from edgeport.runtimes.bundles.manifest import MANIFEST, Artefact, Manifest, StoredFile
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verification import output_facts
from edgeport.runtimes.session import BACKENDS

from .attempts import Attempt
from .further import with_verdicts

GOLDEN: Final = "golden.safetensors"
REPORT: Final = "reports/parity.json"


def artefacts_of(won: Sequence[Attempt]) -> tuple[Artefact, ...]:
    """Of the attempts that left one."""
    return tuple(found.compiled.artefact for found in won if found.compiled)


def with_golden(
    source: Source,
    weights: str,
    golden: Sequence[Golden],
    thresholds: Thresholds,
    folder: Path,
) -> Callable[[tuple[Artefact, ...]], Manifest]:
    """Write the samples; what makes a manifest of them and of artefacts."""
    stored = store(folder, GOLDEN, safetensors.numpy.save(to_tensors(golden)))
    return partial(_manifest, source, weights, stored, golden, thresholds)


def with_report(manifest: Manifest, report: Report, folder: Path) -> Manifest:
    """Write the report, and the manifest that lists it: the last file."""
    (folder / REPORT).parent.mkdir()
    # indented, it would be twice as long: more than the model, where that is small
    text = json.dumps(report.to_json(), separators=(",", ":"), allow_nan=False)
    packed = replace(manifest, evidence={"parity": store(folder, REPORT, text.encode())})
    files.write(folder / MANIFEST, packed.dumps())
    return packed


def parity_report(
    manifest: Manifest, golden: Sequence[Golden], won: Sequence[Attempt], trial: Trial
) -> Report:
    """What is proved of the artefacts, with what was found after they had passed."""
    reports = (
        with_verdicts(report, trial)
        for found in won
        for report in found.reports
        if report.backend in BACKENDS
    )
    return Report(
        manifest.name, len(golden), manifest.thresholds, tuple(reports), output_facts(golden)
    )


def debug_maps(won: Sequence[Attempt]) -> dict[str, str]:
    """By format, what leads from the nodes of an artefact to the user's code; none of it ships."""
    return {
        found.format: found.compiled.debug_map
        for found in won
        if found.compiled and found.compiled.debug_map
    }


def _manifest(
    source: Source,
    weights: str,
    golden_file: StoredFile,
    golden: Sequence[Golden],
    thresholds: Thresholds,
    artefacts: tuple[Artefact, ...],
) -> Manifest:
    return Manifest(
        name=source.name,
        signature=source.signature,
        artefacts=artefacts,
        golden=golden_file,
        samples=tuple((sample.name, sample.kind) for sample in golden),
        thresholds=thresholds,
        producer={
            "edgeport": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "onnx": onnx.__version__,
        },
        gap=next((sample.gap for sample in golden if sample.gap), None),
        source={"weights_sha256": weights},
        labels=source.labels,
    )
