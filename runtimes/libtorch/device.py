"""The device that torch computes on: which was asked for, whether it is there, what is in use.

TF32 and the share of a GPU's memory are choices of the whole process, as the number of threads is.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import torch

from edgeport.runtimes.devices import (
    DeviceKind,
    GpuOptions,
    cuda_index,
    no_such_gpu,
    require_no_forced_tf32,
)
from edgeport.runtimes.errors import (
    BackendMissingError,
    ContractError,
    first_line,
)
from edgeport.runtimes.session import Availability

from .failures import gpu_failure
from .process_settings import ProcessSetting


def available() -> Availability:
    """What this torch was built for; whether there is a GPU, only opening tells."""
    with_gpu = torch.version.cuda or torch.version.hip
    provider = (
        "cpu" if not with_gpu else f"cpu, {'ROCm' if torch.version.hip else 'CUDA'} {with_gpu}"
    )
    devices: tuple[DeviceKind, ...] = ("cpu", "cuda") if with_gpu else ("cpu",)
    return Availability(True, "torch", torch.__version__, provider, devices=devices)


def require_torch_device(asked: str | None) -> torch.device:
    """The device of ``Options``; the CPU where none was asked for.

    Raises:
        BackendMissingError: Torch has no CUDA, finds no driver that it can use, has fewer GPUs, or
            cannot compute on this one.
        EngineError: The GPU has no memory left.
    """
    if asked in (None, "cpu"):
        return torch.device("cpu")
    if torch.version.cuda is None and torch.version.hip is None:
        raise BackendMissingError(
            f"torch {torch.__version__} was built without CUDA, so it cannot run on {asked}",
            remedy="install a torch with CUDA (https://pytorch.org/get-started/locally), "
            "or use the device cpu",
        )
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # it has no types
    except Exception as e:  # RuntimeError, AssertionError, torch's own
        raise BackendMissingError(
            f"torch {torch.__version__} cannot use CUDA: {' '.join(str(e).split())}",
            remedy="edgeport doctor shows the driver and the GPUs of this machine",
        ) from e
    index, count = cuda_index(asked), torch.cuda.device_count()
    if index >= count:
        raise no_such_gpu(index, count)
    device = torch.device("cuda", index)
    require_kernels(device)
    return device


def require_kernels(device: torch.device) -> None:
    """See that torch computes on a device: only then it says that it was built for other GPUs.

    Raises:
        BackendMissingError: It does not.
        EngineError: The GPU has no memory left, or was lost before.
    """
    try:
        torch.zeros(1, device=device).add_(1).cpu()
    except Exception as e:  # torch's own
        raise gpu_failure(e, device) or BackendMissingError(
            f"torch {torch.__version__} cannot compute on {device}: {first_line(e)}",
            remedy="edgeport doctor shows the driver and the GPUs of this machine",
        ) from e


def require_all_on(device: torch.device, name: str, tensors: Iterable[Any]) -> None:
    """See that the tensors of a program that was loaded are where they should be.

    Args:
        device: Where.
        name: Of the file, for the error.
        tensors: Its parameters and buffers.

    Raises:
        ContractError: One of them is somewhere else.
    """
    for place in {tensor.device for tensor in tensors}:
        if place != device:
            raise ContractError(
                f"{name} was to be on {device}, and has tensors on {place}",
                remedy="use the device cpu",
            )


class GpuChoices:
    """What a session on a GPU sets for the process, until it is closed: the newest one's holds.

    Args:
        device: Where; a CPU has no such choices.
        asked: What was asked.

    Raises:
        ContractError: Something else in this process or its environment makes float32 TF32.
    """

    def __init__(self, device: torch.device, asked: GpuOptions) -> None:
        self._device = device
        self._undo: Callable[[], None] | None = None
        self._limited = False
        if device.type == "cpu":
            return
        if not asked.tf32:
            require_no_forced_tf32()
        self._undo = _TF32.change(lambda: _allow_tf32(asked.tf32, asked.tf32))
        if self.tf32 != asked.tf32:
            self.restore()
            raise ContractError(
                f"float32 products with tf32={asked.tf32} were asked for, and torch says "
                f"{', '.join(_precisions())}",
                remedy='set torch.backends.fp32_precision = "none"',
            )
        if asked.memory_bytes is not None:
            total = torch.cuda.get_device_properties(device).total_memory
            self._limited = True
            torch.cuda.set_per_process_memory_fraction(min(asked.memory_bytes / total, 1), device)

    @property
    def tf32(self) -> bool:
        """Whether torch may round to TF32 now, as it says itself."""
        return self._device.type != "cpu" and "tf32" in _precisions()

    def restore(self) -> None:
        """Leave the process as it was."""
        if self._undo is not None:
            self._undo()
        if self._limited:
            torch.cuda.set_per_process_memory_fraction(1.0, self._device)
        self._undo, self._limited = None, False


def _allow_tf32(matmul: bool, cudnn: bool) -> None:
    """Choose by the older names, which set the newer ones too.

    It does not work the other way round: whoever reads an older name after a newer one was set
    gets an error (torch 2.9 to 2.13).
    """
    torch.backends.cuda.matmul.allow_tf32 = matmul
    torch.backends.cudnn.allow_tf32 = cudnn


def _own_choices() -> tuple[str, ...]:
    """Of products, convolutions and recurrent layers; ``"none"`` is what all of torch does."""
    kinds: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]  # untyped
        torch.backends.cudnn.rnn,
    )
    return tuple(str(kind.fp32_precision) for kind in kinds)


def _put_choices(before: tuple[str, ...]) -> None:
    """What ``_own_choices`` read."""
    matmul, conv, rnn = before
    _allow_tf32(matmul == "tf32", conv == "tf32")
    torch.backends.cuda.matmul.fp32_precision = matmul
    torch.backends.cudnn.conv.fp32_precision = conv  # type: ignore[attr-defined]  # untyped
    torch.backends.cudnn.rnn.fp32_precision = rnn  # type: ignore[attr-defined]  # untyped


_TF32: Final = ProcessSetting(_own_choices, _put_choices)


def _precisions() -> tuple[str, ...]:
    general = torch.backends.fp32_precision  # type: ignore[attr-defined]  # untyped
    return tuple(general if each == "none" else each for each in _own_choices())
