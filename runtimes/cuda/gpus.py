"""Which GPUs this process may use, asked in a child: who has started CUDA cannot fork any more.

Checks and servers fork, and a fork of a process that has started CUDA cannot use it. So whoever
only wants to know whether there is a GPU must not start it here.
https://docs.nvidia.com/cuda/cuda-c-programming-guide/#initialization
"""

from __future__ import annotations

import ctypes
import functools
import json
from dataclasses import asdict, dataclass
from typing import Final

from edgeport.runtimes import errors
from edgeport.runtimes.errors import BackendMissingError, EngineError

from .failures import no_driver

_LONGEST_S: Final = 60.0
"""Starting CUDA takes 0.2 s, and some seconds where there are many GPUs that are not kept awake."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """What the driver says.

    Attributes:
        cuda: The newest CUDA that it can run, such as (13, 0).
        names: Of the GPUs in their order: the first is ``cuda:0``.
        capabilities: Their compute capabilities, such as ``"8.9"``.
    """

    cuda: tuple[int, int]
    names: tuple[str, ...]
    capabilities: tuple[str, ...]


@functools.cache  # a failure is not remembered: the next one may ask after a remedy
def gpus() -> Gpus:
    """Ask the driver.

    Raises:
        BackendMissingError: There is none, or it sees no GPU.
        EngineError: It does not answer.
    """
    from edgeport.runtimes.safety.forked import run_forked

    from .driver import LIBRARIES

    reasons = []
    for path in LIBRARIES:
        try:
            ctypes.CDLL(path)  # this alone starts nothing
            break
        except OSError as e:
            reasons.append(str(e))
    else:
        raise no_driver(reasons[0])
    answer, _ = run_forked(_answer, _LONGEST_S)
    if not answer:
        raise EngineError(
            f"the NVIDIA driver did not answer within {_LONGEST_S:g} s, or took its process with "
            "it",
            remedy="nvidia-smi tells whether it is healthy",
        )
    return _read(json.loads(answer))


def _answer() -> bytes:
    """What the child says."""
    try:
        found = _ask()
    except errors.EdgeportError as e:
        told = {"error": type(e).__name__, "problem": e.problem, "remedy": e.remedy}
        return json.dumps(told).encode()
    return json.dumps(asdict(found)).encode()


def _ask() -> Gpus:
    from .device import devices
    from .driver import driver

    found = devices()
    if not found:
        raise BackendMissingError(
            "the NVIDIA driver sees no GPU", remedy="check nvidia-smi and CUDA_VISIBLE_DEVICES"
        )
    return Gpus(
        driver().cuda_version,
        tuple(each.name for each in found),
        tuple("{}.{}".format(*each.compute_capability) for each in found),
    )


def _read(told: dict[str, object]) -> Gpus:
    if "error" not in told:
        cuda, names, capabilities = told["cuda"], told["names"], told["capabilities"]
        assert isinstance(cuda, list)
        assert isinstance(names, list)
        assert isinstance(capabilities, list)
        return Gpus((cuda[0], cuda[1]), tuple(names), tuple(capabilities))
    kind = getattr(errors, str(told["error"]))
    if kind is EngineError:  # this process has started CUDA itself, so that it may be asked here
        return _ask()
    raise kind(str(told["problem"]), remedy=str(told["remedy"]))
