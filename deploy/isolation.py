"""Compilers run in a process of their own: they may crash, hang, or eat the memory there.

The process is a fork, so that any module can be compiled, also one from a notebook, and nothing
that a compiler does to it is seen here.
"""

import faulthandler
import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Final, TypeVar

import torch

from edgeport.deploy.diagnosis.remedies import NO_GPU
from edgeport.deploy.diagnosis.rules import FORKED, FORKED_PROBLEM
from edgeport.runtimes import EdgeportError, ExportError
from edgeport.runtimes.safety.forked import OUT_OF_MEMORY, restrict, run_forked
from edgeport.runtimes.safety.fresh import ending

T = TypeVar("T")

_TAIL_BYTES: Final = 2**15


@dataclass(frozen=True, slots=True)
class Limits:
    """What one compiler may use.

    Attributes:
        time_s: Wall time; large models take minutes.
        memory_bytes: Memory beyond what the process already has; ``None`` for what is free.
    """

    time_s: float = 1800.0
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Killed:
    """How a process ended without an answer.

    Attributes:
        reason: ``time``, ``memory`` or ``crash``.
        problem: What happened, for the user.
        output: The end of what it wrote.
    """

    reason: str
    problem: str
    output: str


def run_isolated(function: Callable[[], T], limits: Limits) -> T | Killed:
    """Call a function in a forked process.

    Args:
        function: Its result must be picklable; an ``EdgeportError`` that it raises is raised here.
        limits: What it may use.

    Returns:
        What it returned, or how it was ended.

    Raises:
        EdgeportError: The function raised it.
    """
    with tempfile.TemporaryFile() as output:
        work = partial(_answer, function, limits, output.fileno())
        data, status = run_forked(work, limits.time_s)
        if data and status == 0:
            result: T | EdgeportError = pickle.loads(data)
            if isinstance(result, EdgeportError):
                raise result
            return result
        return _killed(status, data is None, limits, _tail(output))


def _answer(function: Callable[[], object], limits: Limits, output: int) -> bytes:
    """What the child does."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = os.fdopen(os.dup(output), "w", buffering=1)
    faulthandler.enable(sys.stderr)  # a crash tells which of the user's layers it was in
    restrict(limits.memory_bytes)
    torch.set_num_threads(1)
    try:
        return pickle.dumps(function())
    except EdgeportError as e:
        return pickle.dumps(e)
    except RuntimeError as e:
        if FORKED not in str(e):
            raise
        return pickle.dumps(ExportError(FORKED_PROBLEM, remedy=NO_GPU))


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _TAIL_BYTES))
    return output.read().decode("utf-8", "replace").strip()


def _killed(status: int, late: bool, limits: Limits, output: str) -> Killed:
    if late:
        return Killed("time", f"it took longer than {limits.time_s:g} s", output)
    exited = os.WIFEXITED(status)
    if "bad_alloc" in output or (exited and os.WEXITSTATUS(status) == OUT_OF_MEMORY):
        return Killed("memory", "it ran out of memory", output)
    if os.WIFSIGNALED(status):
        return Killed("crash", f"it was ended by {ending(-os.WTERMSIG(status))}", output)
    return Killed(
        "crash", f"it ended: {output.splitlines()[-1] if output else 'no reason'}", output
    )
