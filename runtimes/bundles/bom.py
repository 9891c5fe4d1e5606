"""What a bundle consists of, as a CycloneDX 1.6 ML-BOM: https://cyclonedx.org/docs/1.6/json."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, Final

from .bundle import Bundle, read_manifest
from .evidence import proofs
from .manifest import MANIFEST, StoredFile

SPEC_VERSION: Final = "1.6"

_PACKAGES: Final = (
    "edgeport",
    "torch",
    "onnx",
    "onnxruntime",
    "numpy",
    "onnxscript",
    "safetensors",
)
"""Producers that are packages of PyPI under these names."""


def bill_of_materials(bundle: Bundle) -> dict[str, Any]:
    """The bill: the model with its card, every file with its hash, what made it.

    The same bundle has always the same bill.

    Raises:
        EdgeportError: As ``evidence.proofs``.
    """
    manifest = bundle.manifest
    data = read_manifest(bundle.files, bundle.path)
    digest = hashlib.sha256(data).hexdigest()
    tools = [_library(name, version) for name, version in manifest.producer.items()]
    return {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC_VERSION}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"tools": {"components": tools}, "component": _model(bundle, digest)},
        "components": [_file(stored) for stored in manifest.files],
        "dependencies": [
            {"ref": "model", "dependsOn": [f"file:{stored.file}" for stored in manifest.files]}
        ],
    }


def _model(bundle: Bundle, digest: str) -> Mapping[str, Any]:
    signature, source = bundle.manifest.signature, bundle.manifest.source
    metrics = [
        {
            "type": "largest error over the noise floor of PyTorch float32",
            "value": f"{proof.worst_ratio:.6g}",
            "slice": f"{proof.backend} ({proof.engine})",
        }
        for proof in proofs(bundle)
        if proof.worst_ratio is not None
    ]
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": bundle.manifest.name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "properties": [
            {"name": "edgeport:manifest", "value": MANIFEST},
            *({"name": f"edgeport:{key}", "value": value} for key, value in source.items()),
        ],
        "modelCard": {
            "modelParameters": {
                "inputs": [{"format": str(spec)} for spec in signature.inputs],
                "outputs": [{"format": str(spec)} for spec in signature.outputs],
            },
            "quantitativeAnalysis": {"performanceMetrics": metrics},
        },
    }


def _file(stored: StoredFile) -> Mapping[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{stored.file}",
        "name": stored.file,
        "hashes": [{"alg": "SHA-256", "content": stored.sha256}],
        "properties": [{"name": "edgeport:size_bytes", "value": str(stored.size_bytes)}],
    }


def _library(name: str, version: str) -> Mapping[str, Any]:
    found: dict[str, Any] = {"type": "library", "name": name, "version": version}
    if name in _PACKAGES:
        found["purl"] = f"pkg:pypi/{name}@{version.replace('+', '%2B')}"
    return found
