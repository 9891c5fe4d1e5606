"""What is asked of an engine, checked before anything is compiled."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from edgeport.deploy.compilers.targets import Target, find_target
from edgeport.runtimes import UsageError
from edgeport.runtimes.tensorrt.library import NAMES, Library, Name, load, require_gpu
from edgeport.runtimes.tensorrt.order import EngineOptions

ENGINES: Final = NAMES
"""Formats that are built from ONNX."""

NONE: Final = EngineOptions()

_ONLY: Final = {
    "compute_capabilities": ("tensorrt-rtx", "--compute-capability"),
    "timing_cache": ("tensorrt", "--timing-cache"),
    "version_compatible": ("tensorrt", "--version-compatible"),
    "hardware_compatible": ("tensorrt", "--hardware-compatible"),
}
"""Options that one of the two libraries has."""

_WHY: Final = {
    "compute_capabilities": "TensorRT builds for the GPU that it finds; --hardware-compatible "
    "makes an engine for all from Ampere on",
    "timing_cache": "TensorRT-RTX measures nothing while it builds",
    "version_compatible": "TensorRT-RTX has no lean runtime, which such an engine needs",
    "hardware_compatible": "engines of TensorRT-RTX run on all its GPUs from Ampere on, unless "
    "--compute-capability says which",
}

_CAPABILITY: Final = re.compile(r"SM(\d+)(\d)")


def engines(formats: Sequence[str], options: EngineOptions) -> dict[Library, EngineOptions]:
    """Find the libraries that are to build, and what of the options is for each.

    Args:
        formats: Those that were asked for, of any kind.
        options: For all engines.

    Raises:
        BackendMissingError: A library is not here, or builds only where a GPU is.
        UsageError: An option is for no engine that was asked for, or makes no sense.
    """
    names: list[Name] = [name for name in ENGINES if name in formats]
    _refuse_unused(names, options)
    found: dict[Library, EngineOptions] = {}
    for name in names:
        library = load(name)
        if name == "tensorrt":
            require_gpu(library, "to build an engine")
        elif options.refit:
            require_gpu(library, "to build an engine whose weights can be exchanged")
        check_capabilities(library, options.compute_capabilities)
        found[library] = _own(name, options)
    return found


def _refuse_unused(names: Sequence[Name], options: EngineOptions) -> None:
    if not names and options != NONE:
        raise UsageError(
            "an option of TensorRT was given, and --format asks for no engine",
            remedy=f"add one to --format: {' or '.join(ENGINES)}; or leave the option out",
        )
    for field, (owner, flag) in _ONLY.items():
        if getattr(options, field) != getattr(NONE, field) and owner not in names:
            raise UsageError(
                f"{flag} is for --format {owner}: {_WHY[field]}", remedy=f"leave {flag} out"
            )


def _own(name: Name, options: EngineOptions) -> EngineOptions:
    """The options without those that only the other library has."""
    foreign = {field: getattr(NONE, field) for field, (owner, _) in _ONLY.items() if owner != name}
    return replace(options, **foreign)


def check_capabilities(library: Library, asked: Sequence[str]) -> None:
    """Refuse a compute capability that the library does not build for.

    Raises:
        UsageError: It does not, or one is named twice.
    """
    if library.name != "tensorrt-rtx":
        return
    known = capabilities(library.module)
    for each in asked:
        if each not in known:
            raise UsageError(
                f"{library} builds for no compute capability {each!r}",
                remedy=f"name some of {', '.join(known)}: "
                "https://developer.nvidia.com/cuda-gpus lists them by GPU; GPUs of data centres "
                "(9.0, 10.0) are for --format tensorrt",
            )
    if len(set(asked)) != len(asked):
        raise UsageError(
            f"the compute capabilities {', '.join(asked)} name one twice",
            remedy="name each once",
        )


def capabilities(module: Any) -> tuple[str, ...]:
    """Those that TensorRT-RTX builds for, oldest first, as ``8.6``."""
    found = (_CAPABILITY.fullmatch(name) for name in dir(module.ComputeCapability))
    pairs = sorted((int(match[1]), int(match[2])) for match in found if match)
    return tuple(f"{major}.{minor}" for major, minor in pairs)


def target_of(library: Library) -> Target:
    """What the library reads."""
    if library.name == "tensorrt-rtx":
        return find_target("tensorrt-rtx-1")
    major = int(library.version.partition(".")[0])
    return find_target(f"tensorrt-{min(major, 11)}")  # a newer one reads what 11 reads
