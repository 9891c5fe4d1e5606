"""Does a module remember what no sample shows: what is far from all of them, or a million calls?"""

import contextlib
import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import torch

from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.state import state_of
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array

from .determinism import check_unchanged
from .reference import Reference
from .unusual import UNUSUAL, some

_FACTORS: Final = (1e6, -1e6)
_CALLS: Final = 1_000_003
"""A prime: what begins anew after a thousand calls is elsewhere then."""

_Place: TypeAlias = tuple[str, str]
"""A part of the module, and a name in it."""


def check_far(reference: Reference, sample: Golden) -> None:
    """Refuse a module that remembers what is far from all samples: a largest value, many calls.

    It is spoilt then: ask in a process of its own.

    Args:
        reference: What the module answers.
        sample: One that it was seen to answer alike after all others.

    Raises:
        SourceError: It answers otherwise after a million calls, as its counters have it, or since
            it ran on inputs a million times as large, or with NaN or Inf: with what it keeps.
    """
    flat, example = reference.source.flat, reference.source.example
    before = state_of(flat.module)
    with contextlib.suppress(RuntimeError):  # see ``compilers.derivatives_in_forks``
        if _count_on(flat, example):
            check_unchanged(flat, sample, before)
    asked = [some(example, value) for value in UNUSUAL.values()]
    for inputs in (*asked, *(_times(example, factor) for factor in _FACTORS)):
        with contextlib.suppress(Exception):  # whatever the module raises
            run_module(flat, inputs)
    with contextlib.suppress(RuntimeError):
        check_unchanged(flat, sample, before)


def _count_on(flat: Flat, inputs: Mapping[str, Array]) -> bool:
    """Let what each call adds the same to be that of many calls more; whether there is some."""
    seen = [_numbers(flat)]
    for _ in range(2):
        run_module(flat, inputs)
        seen.append(_numbers(flat))
    first, second, third = seen
    steps = {
        place: third[place] - second[place]
        for place in first.keys() & second.keys() & third.keys()
        if math.isclose(third[place] - second[place], second[place] - first[place], rel_tol=1e-3)
    }
    steps = {place: step for place, step in steps.items() if step}
    for (path, name), step in steps.items():
        part: Any = flat.module.get_submodule(path)
        setattr(part, name, getattr(part, name) + step * _CALLS)
    return bool(steps)


def _numbers(flat: Flat) -> dict[_Place, float]:
    """The single numbers among a module's buffers and plain attributes."""
    found: dict[_Place, float] = {}
    for path, part in flat.module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for name, value in {**vars(part), **part._buffers}.items():
            if type(value) in (int, float):
                found[path, name] = value
            elif isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_complex():
                found[path, name] = value.item()
    return found


def _times(example: Mapping[str, Array], factor: float) -> dict[str, Array]:
    with np.errstate(over="ignore"):  # float16 ends at 65,504
        return {
            n: a * a.dtype.type(factor) if a.dtype.kind == "f" else a for n, a in example.items()
        }
