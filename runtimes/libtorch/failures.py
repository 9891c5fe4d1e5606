"""What torch says when it fails, told in a line."""

import itertools
import re
from typing import Final

import torch

from edgeport.runtimes.errors import EngineError, LostGpuError
from edgeport.runtimes.run_failures import run_failure

_CUDA_ERROR: Final = re.compile("CUDA error: .*")
"""Four lines of advice follow it, and the stack of a script is in front."""
_CRASHES: Final = (
    "device-side assert triggered",
    "illegal memory access",
    "misaligned address",
    "illegal instruction",
    "unspecified launch failure",
    "the launch timed out",
)
"""After these no call of CUDA succeeds any more."""


def failure(error: Exception, device: torch.device) -> EngineError:
    """The error to raise for one of a run on a device."""
    if isinstance(error, torch.OutOfMemoryError):
        told = ". ".join(" ".join(str(error).split()).split(". ")[:3])  # then advice on settings
        return EngineError(
            f"{device} is out of memory: {told}",
            remedy="use smaller inputs, or end what else uses the GPU: nvidia-smi lists it",
        )
    if said := _CUDA_ERROR.search(str(error)):
        problem = f"torch failed on {device}: {said[0].strip()}"
        if any(words in problem for words in _CRASHES):
            return LostGpuError(
                problem,
                remedy="CUDA cannot be used again in this process: start a new one; an index "
                "behind the end of its table is told on the CPU",
            )
        return EngineError(problem, remedy="edgeport doctor shows the driver and the GPUs")
    return run_failure("torch", last_line(error))


def last_line(error: Exception) -> str:
    """The line of a torch exception that says what happened; the rest is a stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    code = [line for line, under in itertools.pairwise(lines) if "<--- HERE" in under][-1:]
    if any(line.startswith("The original call is") for line in lines):  # a loader's, not a run's
        return " ".join([lines[0], *code])
    if lines and lines[-1].endswith("Error:"):  # without a message: the line of code then
        return " ".join([lines[-1], *code])
    return lines[-1] if lines else type(error).__name__
