"""Modules whose forward takes derivatives, beside a GPU.

Compilers run in forks, and torch refuses backward in a fork of a process that has threads for a GPU
(2.13). It has them from its first backward on, which may be forward's own, when the reference runs.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final
from unittest import mock

import torch

from edgeport.deploy.compilers.upstream import inference_only, quiet
from edgeport.deploy.sources.source import Source
from edgeport.runtimes.safety.forked import restrict, run_forked

from . import program

_LONGEST_S: Final = 60.0


@contextlib.contextmanager
def noticed() -> Iterator[list[bool]]:
    """A list that is filled if derivatives are taken before the end."""
    taken: list[bool] = []
    own: Any = torch.autograd.graph._engine_run_backward

    def run(*args: Any, **options: Any) -> Any:
        taken[:] = [True]
        return own(*args, **options)

    with mock.patch.object(torch.autograd, "_engine_run_backward", run):
        yield taken


def are_refused() -> bool:
    """Whether torch takes no derivatives in a fork of this process."""
    answer, _ = run_forked(_derive, _LONGEST_S)
    return answer == b"refused"


def _derive() -> bytes:
    restrict(None)
    try:
        torch.ones((), requires_grad=True).backward()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return b"refused"
    return b""


def with_recording(source: Source) -> Source:
    """The same source, with what forward does in operators where a fork could not find it out."""
    if not are_refused():
        return source
    with quiet(), inference_only():
        return replace(source, recorded=program.record(source))
