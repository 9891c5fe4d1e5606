"""The device that torch computes on: which was asked for, whether it is there, what is in use."""

from collections.abc import Iterable
from typing import Any

import torch

from .devices import cuda_index, no_such_gpu
from .errors import BackendMissingError, ContractError


def require_torch_device(asked: str | None) -> torch.device:
    """The device of ``Options``; the CPU where none was asked for.

    Raises:
        BackendMissingError: Torch has no CUDA, finds no driver that it can use, or has fewer GPUs.
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
    return torch.device("cuda", index)


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
