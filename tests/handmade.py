"""Bundles made by hand: any bytes, any golden samples; neither a module nor a compiler."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from safetensors.numpy import save

from edgeport.runtimes import Bundle, Signature
from edgeport.runtimes.bundles.golden import Golden, to_tensors
from edgeport.runtimes.bundles.manifest import Artefact, Manifest, StoredFile
from edgeport.runtimes.parity.thresholds import Thresholds

_DETAILS: Final = {"onnx": {"opset": 20}}


def stored(folder: Path, file: str, data: bytes) -> StoredFile:
    """Write a file of a bundle."""
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(data)
    return StoredFile(file, hashlib.sha256(data).hexdigest(), len(data))


def bundle(
    path: Path,
    signature: Signature,
    artefacts: Mapping[str, bytes],
    samples: Sequence[Golden] = (),
    thresholds: Thresholds | None = None,
) -> Path:
    """Make one whose artefacts, by format, are in files named ``model.FORMAT``."""
    path.mkdir()
    manifest = Manifest(
        name=path.stem,
        signature=signature,
        artefacts=tuple(
            Artefact(kind, "float32", stored(path, f"model.{kind}", data), _DETAILS.get(kind, {}))
            for kind, data in artefacts.items()
        ),
        golden=stored(path, "golden.safetensors", save(dict(to_tensors(samples)))),
        samples=tuple((sample.name, sample.kind) for sample in samples),
        thresholds=thresholds or Thresholds(),
        producer={"edgeport": "0"},
    )
    (path / "manifest.json").write_text(manifest.dumps())
    return path


def put_report(path: Path, kind: str, data: bytes) -> Bundle:
    """Pack a report into a bundle."""
    entry = asdict(stored(path, f"reports/{kind}.json", data))
    edit(path, lambda m: m["evidence"].update({kind: entry}))
    return Bundle.peek(path)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = path / "manifest.json"
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def replace_artefact(path: Path, format_: str, data: bytes, **changes: object) -> None:
    """Put other bytes there, with the hash that belongs to them.

    Args:
        path: A bundle.
        format_: Of the artefact, or ``"golden"``.
        data: The bytes.
        changes: To its entry in the manifest.
    """

    def change(manifest: dict[str, Any]) -> None:
        for entry in (*manifest["artefacts"], manifest["golden"]):
            if entry.get("format", "golden") == format_:
                entry.update(changes)
                entry.update(asdict(stored(path, entry["file"], data)))

    edit(path, change)
