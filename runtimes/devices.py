"""Where a session computes: on the CPU, or on one CUDA device."""

import os
import re
from typing import Final, Literal

from .errors import BackendMissingError, UsageError

DeviceKind = Literal["cpu", "cuda"]

_DEVICE: Final = re.compile(r"cpu|cuda(:\d{1,4})?")


def check_device(device: str | None) -> None:
    """Refuse what names no device; ``None`` is the backend's own choice.

    Raises:
        UsageError: It is none of ``"cpu"``, ``"cuda"`` and ``"cuda:N"``.
    """
    if device is not None and _DEVICE.fullmatch(device) is None:
        raise UsageError(
            f"there is no device {device!r}",
            remedy="use cpu, cuda or cuda:N, where cuda:0 is the first GPU, as cuda is",
        )


def device_kind(device: str) -> DeviceKind:
    """``"cpu"`` or ``"cuda"``.

    Examples:
        >>> device_kind("cuda:1")
        'cuda'
    """
    return "cpu" if device == "cpu" else "cuda"


def cuda_index(device: str | None) -> int:
    """Which of the CUDA devices: the first one unless a number is given.

    Examples:
        >>> [cuda_index(device) for device in (None, "cuda", "cuda:3")]
        [0, 0, 3]
    """
    return int((device or "").partition(":")[2] or 0)


def no_such_gpu(index: int, count: int) -> BackendMissingError:
    """The error for a GPU that an engine does not have."""
    there = {0: "none", 1: "one, cuda:0"}.get(count, f"{count}, cuda:0 to cuda:{count - 1}")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
    return BackendMissingError(
        f"there is no cuda:{index}: of the GPUs that may be used here there is {there}{seen}",
        remedy="nvidia-smi -L lists the GPUs of this machine; CUDA_VISIBLE_DEVICES chooses of them",
    )
