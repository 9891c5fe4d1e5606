"""Bundles made by hand: any bytes, any golden samples; neither a module nor a compiler."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from safetensors.numpy import save

from edgeport.runtimes import Signature
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
