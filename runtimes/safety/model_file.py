"""What must hold of an artefact before an engine parses it."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

from edgeport.runtimes.errors import FormatError


def check_model(path: Path, format_: str, names: Sequence[str], name: str) -> None:
    """Refuse an artefact that a parser could choke on, or that reads or runs what it should not.

    Args:
        path: The file, or a private copy of it.
        format_: Of the artefact.
        names: In the bundle: the file's, and those of the files that it may read besides.
        name: What to call it in an error.

    Raises:
        FormatError: It is so.
    """
    try:
        if format_ in ("onnx", "onnx-strings"):
            _check_onnx(path, names, name)
        elif format_ in ("torchscript", "pt2", "aotinductor"):
            _check_torch(path, format_)
    except ValueError as e:  # UnicodeDecodeError, JSONDecodeError too
        if isinstance(e, FormatError):
            raise
        raise FormatError(
            f"{name} is not safe to open: {e}", remedy="don't use this file; export the model again"
        ) from e


def _check_onnx(path: Path, names: Sequence[str], name: str) -> None:
    from edgeport.runtimes.weights.external import locations

    from .onnx_limits import check_onnx

    with path.open("rb") as file:
        if not path.stat().st_size:  # nothing can't be mapped
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            check_onnx(data)
            named = set(locations(data))
    folder, listed = names[0].rpartition("/")[0], names[1:]
    for each in sorted(named):
        if (f"{folder}/{each}" if folder else each) not in listed:
            raise FormatError(
                f"{name} reads {each!r}, which the manifest does not list, so no hash covers it",
                remedy="export the model again; don't use this bundle",
            )


def _check_torch(path: Path, format_: str) -> None:
    from .aoti_package import check_aoti
    from .torch_limits import check_pt2, check_torchscript

    checks = {"torchscript": check_torchscript, "pt2": check_pt2, "aotinductor": check_aoti}
    with path.open("rb") as file:
        checks[format_](file, path.stat().st_size)
