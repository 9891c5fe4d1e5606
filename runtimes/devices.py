"""Where a session computes: on the CPU, or on one CUDA device."""

import os
import re
from typing import Final, Literal

from .errors import BackendMissingError, ContractError, UsageError
from .values import dataclass

DeviceKind = Literal["cpu", "cuda"]

_DEVICE: Final = re.compile(r"cpu|cuda(:\d{1,4})?")

_LEAST_MEMORY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """What a caller may ask of a session on a GPU; a session on a CPU takes none of it.

    Attributes:
        allow_cpu_nodes: Whether nodes for which the engine has no kernel on the GPU may run on
            the CPU. They are in ``EngineInfo.cpu_nodes``.
        memory_bytes: What the engine may take of the GPU's memory; ``None`` for all of it.
        tf32: Whether products of float32 matrices and convolutions may round their factors to 10
            bits of mantissa (TensorFloat-32): several times faster, 8192 times the rounding error.
        cuda_graph: Whether the calls of a model with fixed shapes are recorded once and replayed
            as one: it saves the time of starting each kernel. Such calls go one at a time.
    """

    allow_cpu_nodes: bool = False
    memory_bytes: int | None = None
    tf32: bool = False
    cuda_graph: bool = False

    def __post_init__(self) -> None:
        if self.memory_bytes is not None and self.memory_bytes < _LEAST_MEMORY_BYTES:
            raise UsageError(
                f"{self.memory_bytes} bytes of a GPU's memory were asked for, expected 1 MiB or "
                "more",
                remedy="leave it out to use what is free",
            )


def require_no_forced_tf32() -> None:
    """Refuse an environment that makes NVIDIA's libraries round although nobody asked for it.

    Raises:
        ContractError: It does.
    """
    if os.environ.get("NVIDIA_TF32_OVERRIDE", "0") != "0":
        raise ContractError(
            "float32 was asked for, and NVIDIA_TF32_OVERRIDE makes it TF32",
            remedy="unset NVIDIA_TF32_OVERRIDE, or ask for TF32: --tf32",
        )


def rounded(precision: str, *, tf32: bool) -> str:
    """What a model computes in where products of float32, and no others, may be rounded to TF32.

    Examples:
        >>> [rounded(own, tf32=True) for own in ("float32", "integer", "float16", "float64")]
        ['tf32', 'tf32', 'float16', 'float64']
    """
    return "tf32" if tf32 and precision in ("float32", "integer") else precision


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
