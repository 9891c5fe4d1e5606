"""What torch says when it fails, told in a line."""

import itertools
import re
from typing import Final

import torch

from edgeport.runtimes.cuda.failures import crash
from edgeport.runtimes.errors import (
    BackendMissingError,
    EdgeportError,
    EngineError,
    LostGpuError,
    OutOfMemoryError,
)
from edgeport.runtimes.run_failures import run_failure

_CUDA_ERROR: Final = re.compile("CUDA error: .*")
_NO_MEMORY: Final = re.compile("CUDA error: out of memory|CU[A-Z]+_STATUS_ALLOC_FAILED")
"""cuBLAS and cuDNN ask for memory that torch does not manage."""

_MESSAGE_IS_BEFORE: Final = ("The original call is", "The above operation failed")
"""What the loader, and what looks for shapes before a second run, say behind the message."""


def failure(error: Exception, device: torch.device) -> EdgeportError:
    """The error to raise for one of a run on a device."""
    return gpu_failure(error, device) or run_failure("torch", last_line(error))


def gpu_failure(error: Exception, device: torch.device) -> EdgeportError | None:
    """What one of torch's errors says of a GPU; ``None`` if it says nothing of one.

    Args:
        error: With four lines of advice behind what it says, and the stack of a script in front.
        device: That was used.
    """
    said = _CUDA_ERROR.search(str(error))
    if isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY.search(str(error)):
        told = said[0] if said else ". ".join(" ".join(str(error).split()).split(". ")[:3])
        return OutOfMemoryError(
            f"{device} is out of memory: {told.strip()}",
            remedy="use smaller inputs, or end what else uses the GPU: nvidia-smi lists it",
        )
    if said is None:
        return None
    problem = f"torch failed on {device}: {said[0].strip()}"
    if crash(problem) is not None:
        return LostGpuError(
            problem,
            remedy="CUDA cannot be used again in this process: start a new one; an index "
            "behind the end of its table is told on the CPU",
        )
    if "no kernel image" in problem:
        return BackendMissingError(
            f"torch {torch.__version__} was not built for the GPU {device}: {said[0].strip()}",
            remedy="install a torch that was: https://pytorch.org/get-started/previous-versions",
        )
    if "busy or unavailable" in problem:
        return BackendMissingError(
            problem, remedy="see whether another process has it alone: nvidia-smi -q -d COMPUTE"
        )
    return EngineError(problem, remedy="edgeport doctor shows the driver and the GPUs")


def last_line(error: Exception) -> str:
    """The line of a torch exception that says what happened; the rest is a stack."""
    told = str(error).partition("\n\nWhile executing %")[0]  # an operator of a program
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    code = [line for line, under in itertools.pairwise(lines) if "<--- HERE" in under][-1:]
    if any(line.startswith(_MESSAGE_IS_BEFORE) for line in lines):
        return " ".join([lines[0], *code])
    if lines and lines[-1].endswith("Error:"):  # without a message: the line of code then
        return " ".join([lines[-1], *code])
    return lines[-1] if lines else type(error).__name__
