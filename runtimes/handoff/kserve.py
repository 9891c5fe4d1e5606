"""A KServe InferenceService: Triton's runtime over the model repository that ``triton`` writes.

The name and the storage are held against what KServe's webhook accepts
(pkg/apis/serving/v1beta1/inference_service_validation.go), so that a mistake shows here already.
"""

import json
import re
from pathlib import Path
from typing import Any, Final

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.files import parents, refuse_existing, write

from .triton import servable

STORAGES: Final = (
    "gs://", "s3://", "pvc://", "file://", "https://", "http://", "hdfs://", "webhdfs://",
    "oci://", "hf://",
)  # fmt: skip  # as KServe lists them

_LONGEST_NAME: Final = 53
"""A DNS label has 63 characters, and KServe appends "-predictor"."""


def emit(bundle: Bundle, path: Path, storage_uri: str) -> None:
    """Write the YAML of an InferenceService.

    Args:
        bundle: What is served.
        path: The file, which must not exist.
        storage_uri: Where the model repository is, as the cluster sees it: "s3://bucket/repo".

    Raises:
        UsageError: KServe knows no such storage, the model's name has no letter, or there can be no
            repository of the bundle.
        ExistingFileError: ``path`` exists.
        StorageError: ``path`` cannot be written.
    """
    if not storage_uri.startswith(STORAGES) or not storage_uri.partition("://")[2]:
        raise UsageError(
            f"the storage is {storage_uri!r}, and KServe takes one of {', '.join(STORAGES)}",
            remedy="upload what `edgeport emit triton` wrote, and pass that place",
        )
    servable(bundle)
    refuse_existing(path)
    text = dumps(inference_service(bundle.manifest.name, storage_uri))
    with parents(path):
        write(path, text)


def inference_service(name: str, storage_uri: str) -> dict[str, Any]:
    """The resource, as plain values.

    Raises:
        UsageError: The name has no letter.
    """
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": resource_name(name)},
        "spec": {
            "predictor": {
                "model": {
                    "modelFormat": {"name": "triton", "version": "2"},
                    "protocolVersion": "v2",
                    "runtime": "kserve-tritonserver",
                    "storageUri": storage_uri,
                }
            }
        },
    }


def resource_name(name: str) -> str:
    """A name that Kubernetes takes: lower case, digits and dashes, a letter first.

    Raises:
        UsageError: There is no letter in it.

    Examples:
        >>> resource_name("ResNet18_v1.5")
        'resnet18-v1-5'
    """
    plain = re.sub("[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789")[:_LONGEST_NAME]
    if not plain:
        raise UsageError(
            f"the model is named {name!r}, and Kubernetes wants a letter from a to z",
            remedy="export it under another name",
        )
    return plain.rstrip("-")


def dumps(value: dict[str, Any], indent: str = "") -> str:
    """Write nested mappings of strings as YAML."""
    return "".join(
        f"{indent}{key}:\n{dumps(entry, indent + '  ')}"
        if isinstance(entry, dict)
        else f"{indent}{key}: {_string(entry)}\n"
        for key, entry in value.items()
    )


def _string(text: str) -> str:
    """A double-quoted string: JSON's escapes are YAML's, but for what is outside of ASCII."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char < "\x7f" else f"\\U{ord(char):08x}" for char in quoted)
