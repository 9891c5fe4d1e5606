"""Where a training computes: on the CPU, or on one GPU, in float32 and the same way every time."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from edgeport.runtimes.devices import GpuOptions, check_device
from edgeport.runtimes.errors import OutOfMemoryError, UsageError
from edgeport.runtimes.libtorch.device import GpuChoices, require_torch_device
from edgeport.runtimes.libtorch.failures import gpu_failure


def process_count() -> int:
    """How many processes ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_device(asked: str) -> torch.device:
    """The device that was asked for: it is there, and computes.

    Args:
        asked: ``cpu``, ``cuda`` or ``cuda:N``. Of several processes, ``cuda`` is to each the GPU
            of its own number on its machine.

    Raises:
        UsageError: It names no device, or one GPU to several processes.
        BackendMissingError: There is no such GPU, or torch cannot use it.
        EngineError: The GPU has no memory left.
    """
    check_device(asked)
    if asked.startswith("cuda") and process_count() > 1:
        if asked != "cuda":
            raise UsageError(
                f"{asked} was asked for by each of {process_count()} processes, and each needs a "
                "GPU of its own",
                remedy="use --device cuda: each takes the GPU of its number; CUDA_VISIBLE_DEVICES "
                "chooses of them",
            )
        asked = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    device = require_torch_device(asked)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # NCCL asks which one is the process's own
    return device


def require_tf32(device: torch.device) -> None:
    """See that a device has TF32.

    Raises:
        UsageError: It is no GPU.
    """
    if device.type != "cuda":
        raise UsageError(
            f"TF32 was asked for, and the training is on {device}, which has none",
            remedy="ask for a GPU: --device cuda; or leave --tf32 out",
        )


def device_of(module: nn.Module) -> torch.device:
    """Where a module is: where its first parameter is, if it has one."""
    return next(module.parameters(), torch.empty(0)).device


def device_name(device: torch.device) -> str:
    """What a run and a checkpoint call it: other GPUs round in other ways."""
    kind = device.type
    return f"{kind} ({torch.cuda.get_device_name(device)})" if kind == "cuda" else kind


def forked_random(device: torch.device) -> AbstractContextManager[None]:
    """Leave the random state of the caller alone: the CPU's and a GPU's."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def computing_on(device: torch.device, *, tf32: bool) -> Iterator[None]:
    """Compute on a GPU so that it can be repeated, and tell what goes wrong there.

    By itself torch rounds factors of convolutions to TF32, and sums some gradients in any order.
    Where it has no kernel that keeps an order, it warns, and names the operator.

    Args:
        device: Of a CPU nothing is set.
        tf32: As in ``Settings``.

    Raises:
        UsageError: TF32 is asked for, and the device has none.
        ContractError: The environment makes float32 TF32.
        OutOfMemoryError: The GPU's memory is too small.
        EngineError: The GPU failed.
    """
    if tf32:
        require_tf32(device)
    if device.type != "cuda":
        yield
        return
    choices, mode = GpuChoices(device, GpuOptions(tf32=tf32)), torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode(max(mode, 1))  # 1 warns, 2 is an error
    try:
        yield
    except RuntimeError as e:
        found = gpu_failure(e, device)
        if found is None:
            raise
        if isinstance(found, OutOfMemoryError):
            remedy = (
                "take fewer examples in a step (--batch 16) or a smaller model, or end what else "
                "uses the GPU: nvidia-smi lists it"
            )
            found = OutOfMemoryError(found.problem, remedy=remedy)
        raise found from e
    finally:
        torch.set_deterministic_debug_mode(mode)
        choices.restore()
