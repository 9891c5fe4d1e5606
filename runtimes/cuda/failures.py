"""What CUDA's error codes mean to a person, and what mends them."""

from pathlib import Path
from typing import Final, NamedTuple

from edgeport.runtimes.errors import (
    BackendMissingError,
    EdgeportError,
    EngineError,
    LostGpuError,
    OutOfMemoryError,
)

KERNEL_MODULE: Final = Path("/proc/driver/nvidia/version")
"""What the kernel's part of the driver says of itself."""


class _Known(NamedTuple):
    kind: type[EdgeportError]
    problem: str
    remedy: str


_REPORT: Final = "see the kernel's log: sudo dmesg | grep -i nvrm"
_WITH_GPU: Final = "--gpus all (of Jetson: --runtime nvidia)"
_NEW_PROCESS: Final = "CUDA cannot be used again in this process: start a new one"

KNOWN: Final = {  # CUresult, from cuda.h
    2: _Known(
        OutOfMemoryError,
        "the GPU has not enough memory",
        "close other sessions and processes that use the GPU (nvidia-smi lists them), or run "
        "smaller batches in fewer threads",
    ),
    3: _Known(
        EngineError,
        "CUDA is not started here, as in a process that was forked from one that used it",
        "start processes with multiprocessing's spawn method, or open sessions after the fork",
    ),
    34: _Known(
        BackendMissingError,
        "the loader found the stub of libcuda, which is for linking only",
        "remove the stubs folder from LD_LIBRARY_PATH",
    ),
    46: _Known(
        BackendMissingError,
        "the GPU is busy or unavailable",
        "if it is in exclusive mode, wait for the other process: nvidia-smi -q -d COMPUTE",
    ),
    100: _Known(
        BackendMissingError,
        "the driver sees no GPU",
        f"check nvidia-smi and CUDA_VISIBLE_DEVICES; start a container with {_WITH_GPU}",
    ),
    101: _Known(
        BackendMissingError,
        "there is no GPU of that number",
        "nvidia-smi lists them; CUDA_VISIBLE_DEVICES hides and renumbers them",
    ),
    209: _Known(
        BackendMissingError,
        "there is no code for this GPU's compute capability in it",
        "use a build of the library, or of the engine, that is made for this GPU",
    ),
    214: _Known(EngineError, "the GPU's memory has an error that cannot be corrected", _REPORT),
    700: _Known(LostGpuError, "a kernel touched memory that is not its own", _NEW_PROCESS),
    702: _Known(LostGpuError, "a kernel took longer than the system allows", _NEW_PROCESS),
    710: _Known(
        LostGpuError, "a kernel met what must not be, as an index out of range", _NEW_PROCESS
    ),
    **dict.fromkeys(
        (714, 715, 716, 717, 718, 719), _Known(LostGpuError, "a kernel crashed", _NEW_PROCESS)
    ),
    802: _Known(
        BackendMissingError,
        "the system's GPUs are not ready yet",
        "on a machine with NVSwitch, check that nvidia-fabricmanager runs",
    ),
    803: _Known(
        BackendMissingError,
        "the driver's library and its kernel module are of different versions",
        "reboot after a driver update; in a container, use the host's libcuda",
    ),
    804: _Known(
        BackendMissingError,
        "the forward-compatibility package does not support this GPU",
        "remove cuda-compat from LD_LIBRARY_PATH, or update the driver",
    ),
    999: _Known(BackendMissingError, "the driver failed for an unknown reason", _REPORT),
}


UNKNOWN: Final = 999

CRASHES: Final = {  # what CUDA says of a code, in the messages of the libraries that use it
    "an illegal memory access was encountered": 700,
    "the launch timed out": 702,
    "device-side assert triggered": 710,
    "hardware stack error": 714,
    "an illegal instruction was encountered": 715,
    "misaligned address": 716,
    "operation not supported on global/shared address space": 717,
    "invalid program counter": 718,
    "unspecified launch failure": 719,
    "unknown error": UNKNOWN,
}
"""After these no call of CUDA succeeds any more in the process."""


def crash(text: str) -> int | None:
    """The code of the crash that a message tells of; ``None`` if it tells of none."""
    return next((code for words, code in CRASHES.items() if words in text), None)


def failure(code: int, name: str | None, doing: str, *, in_use: bool = False) -> EdgeportError:
    """The error for a code that a function of the driver returned.

    Args:
        code: A ``CUresult`` that is not 0.
        name: What the driver calls it; ``None`` if it does not know it.
        doing: What failed, as an infinitive.
        in_use: Whether the GPU has computed before. What is unknown is then that it is gone: it
            fell off the bus, or its driver was reset.

    Examples:
        >>> print(failure(101, "CUDA_ERROR_INVALID_DEVICE", "use cuda:3"))
        cannot use cuda:3: there is no GPU of that number (CUDA_ERROR_INVALID_DEVICE)
          fix: nvidia-smi lists them; CUDA_VISIBLE_DEVICES hides and renumbers them
    """
    label = name or f"CUDA error {code}"
    if in_use and code == UNKNOWN:
        gone = f"cannot {doing}: the GPU that was used is lost ({label})"
        return LostGpuError(gone, remedy=f"{_NEW_PROCESS}; {_REPORT}")
    if code not in KNOWN:
        return EngineError(f"cannot {doing}: {label}", remedy=_REPORT)
    known = KNOWN[code]
    problem = f"cannot {doing}: {known.problem} ({label})"
    if code == 803 and (versions := _kernel_module()):
        problem += f"; the kernel module is {versions}"
    return known.kind(problem, remedy=known.remedy)


def no_driver(reason: str) -> BackendMissingError:
    """The error for a machine on which the driver's library cannot be loaded.

    Args:
        reason: What the loader said.
    """
    version = _kernel_module()
    if version is None:
        return BackendMissingError(
            f"a GPU is needed, and no NVIDIA driver is installed here: {reason}",
            remedy=f"use a machine with an NVIDIA GPU and its driver; in a container, {_WITH_GPU}",
        )
    return BackendMissingError(
        f"the kernel has NVIDIA's driver {version}, but its library cannot be loaded: {reason}",
        remedy=f"install the driver's libraries; start a container with {_WITH_GPU}",
    )


def driver_too_old(who: str, found: tuple[int, int]) -> BackendMissingError:
    """The error for a library that was built with a newer CUDA than the driver can run.

    Args:
        who: The library.
        found: The newest CUDA that the driver can run.

    Examples:
        >>> print(driver_too_old("TensorRT 11.4.0", (12, 4)))
        TensorRT 11.4.0 needs a newer NVIDIA driver: this one runs CUDA up to 12.4
          fix: update the driver, or install a build for CUDA 12
    """
    return BackendMissingError(
        f"{who} needs a newer NVIDIA driver: this one runs CUDA up to {found[0]}.{found[1]}",
        remedy=f"update the driver, or install a build for CUDA {found[0]}",
    )


def _kernel_module() -> str | None:
    """The version of the kernel's part of the driver; ``None`` if it is not loaded."""
    try:
        first = KERNEL_MODULE.read_text("utf-8").splitlines()[0]
    except (OSError, IndexError, ValueError):
        return None
    words = [word for word in first.split() if word[0].isdigit()]
    return words[0] if words else first
