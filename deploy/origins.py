"""Whose code a source file is: the user's, a library's, or the compilers' and our own."""

import functools
import sysconfig
from enum import IntEnum
from pathlib import Path
from typing import Final

import edgeport

_COMPILERS: Final = ("torch", "onnx", "onnxscript", "onnxruntime", "edgeport")
_OURS: Final = tuple(
    (Path(edgeport.__file__).parent / name).resolve()
    for name in ("deploy", "runtimes", "commands", "__main__.py")
)
_STANDARD_LIBRARY: Final = Path(sysconfig.get_path("stdlib")).resolve()


class Origin(IntEnum):
    """Whose it is; the smaller, the nearer to the user."""

    USER = 0
    LIBRARY = 1
    COMPILER = 2


@functools.cache
def origin(file: str) -> Origin:
    """Tell whose a file is. Python's own is a compiler's, and so is generated code.

    That has no file: ``<string>``, or ``code/__torch__.py`` in a TorchScript archive.
    """
    path = Path(file)
    if not path.is_absolute() and not path.is_file():
        return Origin.COMPILER
    parts = path.parts
    for folder in ("site-packages", "dist-packages"):
        if folder in parts:
            package = parts[parts.index(folder) + 1]
            return Origin.COMPILER if package in _COMPILERS else Origin.LIBRARY
    resolved = path.resolve()
    machinery = (*_OURS, _STANDARD_LIBRARY)
    return Origin.COMPILER if any(map(resolved.is_relative_to, machinery)) else Origin.USER
