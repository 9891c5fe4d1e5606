"""``edgeport inspect``: what is in a bundle, from which versions, how it was proved.

Every hash is checked; nothing in it is loaded by an engine or executed.
"""

import argparse
import json
import textwrap
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edgeport.commands.run_story import inspect_run, is_run
from edgeport.commands.signature_lines import signature_lines
from edgeport.commands.terminal import coloured, plain, show, size_text, table
from edgeport.runtimes import Bundle, EdgeportError, FormatError, SignatureError
from edgeport.runtimes.bundles.container import Container, Zip
from edgeport.runtimes.bundles.manifest import Artefact, Manifest
from edgeport.runtimes.signature import Signature

INSPECT_VERSION: Final = 1

CODE: Final = {
    "torchscript": "code: it runs what is in it, also while it is loaded",
    "pt2": "code: torch builds a program from it while it is loaded",
    "aotinductor": "native code for one kind of CPU: it runs while it is loaded",
}
"""Formats that are more than data."""


@dataclass(frozen=True, slots=True)
class InspectArgs:
    """What ``edgeport inspect`` was asked."""

    bundle: Path
    as_json: bool
    bom: bool


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Declare the command."""
    parser = commands.add_parser(
        "inspect", help="show what is in a bundle or a run; nothing in it is executed"
    )
    parser.add_argument("bundle", type=Path, help="a bundle (NAME.edge), or a run folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--bom", action="store_true", help="print a CycloneDX 1.6 ML-BOM instead: JSON"
    )
    parser.set_defaults(run=lambda a: run(InspectArgs(a.bundle, a.json, a.bom)))
    return parser


def run(args: InspectArgs) -> int:
    """Check every hash, look and print; a run has parameters and hyperparameters to show."""
    if is_run(args.bundle) and not args.bom:
        return inspect_run(args.bundle, as_json=args.as_json)
    bundle = Bundle.peek(args.bundle)
    bundle.check_files()
    if args.bom:
        from edgeport.runtimes.bundles.bom import bill_of_materials

        show(json.dumps(bill_of_materials(bundle), indent=None if args.as_json else 2))
        return 0
    found = look(bundle)
    show(json.dumps(found) if args.as_json else _render(bundle, found))
    return 0


def look(bundle: Bundle) -> dict[str, Any]:
    """Everything that a bundle says of itself, as plain values.

    Raises:
        EdgeportError: A report in it is not what was packed.
    """
    from edgeport.runtimes.bundles.bundle import read_manifest
    from edgeport.runtimes.bundles.evidence import latencies_ns, proofs
    from edgeport.runtimes.formats.strict_json import parse

    manifest, held = bundle.manifest, bundle.files
    return {
        "inspect_version": INSPECT_VERSION,
        "name": manifest.name,
        "path": str(bundle.path),
        "container": "zip" if isinstance(held, Zip) else "folder",
        "schema_version": parse(read_manifest(held, bundle.path))["schema_version"],
        "signature": manifest.signature.to_json(),
        "labels": {output: list(names) for output, names in manifest.labels.items()},
        "notes": list(manifest.notes),
        "artefacts": [_artefact(artefact) for artefact in manifest.artefacts],
        "samples": dict(Counter(kind for _, kind in manifest.samples)),
        "thresholds": json.loads(manifest.dumps())["thresholds"],
        "producer": dict(manifest.producer),
        "source": dict(manifest.source),
        "proofs": [{**asdict(proof), "worst": proof.worst} for proof in proofs(bundle)],
        "median_latency_ns": dict(latencies_ns(bundle)),
        "signed": _signed(bundle, held),
        "unknown": sorted(manifest.extra),
    }


def _artefact(artefact: Artefact) -> dict[str, Any]:
    return {
        "format": artefact.format,
        "files": [
            {"file": s.file, "size_bytes": s.size_bytes, "sha256": s.sha256} for s in artefact.files
        ],
        "precision": artefact.precision,
        "details": dict(artefact.details),
        "code": artefact.format in CODE,
        "proved": artefact.proved,
    }


def _signed(bundle: Bundle, held: Container) -> dict[str, Any]:
    """Whether it is signed, by whom, and whether a key that is trusted here proves it."""
    from edgeport.runtimes.bundles.bundle import read_manifest
    from edgeport.runtimes.bundles.signing import claims, require_signature, trusted_keys

    try:
        claimed = claims(held)
    except FormatError as e:
        return {"file": None, "key": None, "trusted": False, "reason": e.problem}
    if not claimed:
        return {"file": None, "key": None, "trusted": False, "reason": "not signed"}
    found: dict[str, Any] = {"file": claimed[0].file, "key": claimed[0].key_name, "trusted": False}
    try:
        keys = trusted_keys()
        if not keys:
            return {**found, "reason": "not checked: EDGEPORT_TRUSTED_KEYS names no key"}
        proved = require_signature(held, bundle.path, read_manifest(held, bundle.path), keys)
    except SignatureError as e:
        return {**found, "reason": e.problem}
    except EdgeportError as e:  # a key that cannot be read, a library that is not there
        return {**found, "reason": f"not checked: {e.problem}"}
    return {
        "file": proved.file,
        "key": proved.key_name,
        "trusted": True,
        "reason": "the signature holds",
    }


def _render(bundle: Bundle, found: dict[str, Any]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["samples"].items()) or "none"
    signed = found["signed"]
    by = f"by {signed['key'] or 'a certificate'} in {signed['file']}: " if signed["file"] else ""
    lines = [
        f"{coloured(plain(found['name']), 'bold')}  {found['container']}, "
        f"manifest version {found['schema_version']}",
        *signature_lines(bundle.manifest.signature),
        "",
        table(["format", "precision", "size", "files", "details"], _rows(found), right=[2]),
        "",
        f"{len(bundle.manifest.files)} files have the sizes and hashes of the manifest",
        *_said("made with", found["producer"]),
        *_said("made from", found["source"]),
        f"signature: {by}{plain(signed['reason'])}",
        *_labels(found["labels"], bundle.manifest.signature),
        f"golden samples: {kinds}; {size_text(bundle.manifest.golden.size_bytes)}",
        f"passes with: {_bars(bundle.manifest)}",
        *_proved(found),
        *(
            f"measured where it was benchmarked: {plain(backend)} {latency_ns / 1e3:,.1f} µs in "
            "the median"
            for backend, latency_ns in found["median_latency_ns"].items()
        ),
    ]
    lines += [
        coloured(f"{name} is {CODE[name]}; open it only if you trust who made it", "yellow")
        for name in CODE
        if any(artefact["format"] == name for artefact in found["artefacts"])
    ]
    lines += [
        coloured(
            f"{artefact['format']} was built, not proved: edgeport verify proves it, on a "
            "machine with its GPU",
            "yellow",
        )
        for artefact in found["artefacts"]
        if not artefact["proved"]
    ]
    lines += [coloured(plain(f"note: {note}"), "yellow") for note in found["notes"]]
    if found["unknown"]:
        lines.append(f"not known to this version: {', '.join(map(repr, found['unknown']))}")
    return "\n".join(lines)


def _labels(labels: dict[str, list[str]], signature: Signature) -> list[str]:
    inputs = {spec.name for spec in signature.inputs}
    return [
        plain(
            f"{'categories' if name in inputs else 'classes'} of {name}: {len(names)}: "
            f"{textwrap.shorten(', '.join(names), 80)}"
        )
        for name, names in labels.items()
    ]


def _bars(manifest: Manifest) -> str:
    thresholds = manifest.thresholds
    own = [f"{output} at most {ratio:g}" for output, ratio in thresholds.outputs.items()]
    constant = [f"{output} may be constant" for output in thresholds.constant_outputs]
    signals = [
        f"{precision} signal over noise at least {thresholds.bar_of(precision).min_snr_db:g} dB"
        for artefact in manifest.artefacts
        if (precision := manifest.reduced_precision(artefact)) is not None
    ]
    bars = [f"error / noise floor at most {thresholds.max_ratio:g}", *own, *constant]
    bars += dict.fromkeys(signals)
    return plain(", ".join(bars))


def _rows(found: dict[str, Any]) -> list[list[str]]:
    return [
        [
            artefact["format"],
            plain(artefact["precision"]),
            size_text(sum(file["size_bytes"] for file in artefact["files"])),
            ", ".join(file["file"] for file in artefact["files"]),
            plain(", ".join(f"{key} {value}" for key, value in artefact["details"].items())),
        ]
        for artefact in found["artefacts"]
    ]


def _said(title: str, facts: dict[str, str]) -> list[str]:
    text = ", ".join(f"{key} {value[:16]}" for key, value in facts.items())
    return [f"{title}: {plain(text)}"] if facts else []


def _proved(found: dict[str, Any]) -> list[str]:
    if not found["proofs"]:
        return ["proved: no report is packed; edgeport verify proves it here"]
    return [
        plain(
            f"proved where it was made: {proof['backend']} ({proof['engine']}) {proof['outcome']}"
            + (f", {proof['worst']}" if proof["worst"] else "")
        )
        for proof in found["proofs"]
        if proof["outcome"] != "unusable"
    ]
