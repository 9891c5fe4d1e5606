"""Does a module answer the same to the same input? If not: who is to blame.

A module that draws random numbers, or remembers its last call, has no answer that an artefact
could be compared with. Runs are compared bit by bit; torch's threads may add in another order each
time, so that a difference counts only if one thread shows it too. Where other inputs were between
two runs, rounding may differ: a table that grows with the longest of them is computed anew.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgeport.deploy.diagnosis.places import Map, Place, stack
from edgeport.deploy.kinds import kind_at, kind_of
from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.modules import copied
from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.shared_state import SharedState
from edgeport.deploy.sources.state import State, changed, digest, state_of
from edgeport.runtimes import SourceError
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch.threads import thread_count
from edgeport.runtimes.parity.thresholds import Thresholds
from edgeport.runtimes.parity.verdict import judge

_MOST_NAMES: Final = 3

_SEEDS: Final = range(1, 9)
"""Draws that have to give one answer; two may give one by luck, as of an argmax."""


def check_repeatable(flat: Flat, inputs: Mapping[str, Array]) -> None:
    """Run a module twice on one input, and refuse it if the answers differ.

    Args:
        flat: The module. Its state is what its own runs make of it.
        inputs: By name.

    Raises:
        SourceError: It draws random numbers, or keeps state: with the place, and what to do.
    """
    if _same(run_module(flat, inputs), run_module(flat, inputs)):
        return
    with thread_count(1):
        if not _same(run_module(flat, inputs), run_module(flat, inputs)):
            raise _explained(flat, inputs)


def check_unchanged(flat: Flat, sample: Golden, before: State) -> None:
    """Refuse a module whose answer has changed since it ran on other inputs.

    Args:
        flat: The module.
        sample: What it was run on, and what it answered then.
        before: Its state of then, from ``state_of``.

    Raises:
        SourceError: It keeps state: with its name, and what to do.
    """
    if _same([*sample.eager.values()], run_module(flat, sample.inputs)):
        return
    with thread_count(1):
        again = run_module(flat, sample.inputs)
    if not _is_answer(again, sample) and (through := changed(before, state_of(flat.module))):
        raise _stateful(flat, through)


def check_fresh(
    flat: Flat, fresh: Callable[[], nn.Module], samples: Sequence[Golden], shared: SharedState
) -> None:
    """Refuse a module that answers otherwise where it has not run before.

    Args:
        flat: The module, which has run on many inputs.
        fresh: Makes copies of it that have not.
        samples: What the module answered.
        shared: What was kept outside of it before it ran; each copy finds that again.

    Raises:
        SourceError: It keeps state: with its name, and what to do.
    """
    for sample in samples:
        try:
            with shared.restored():
                first = run_module(flat.around(fresh()), sample.inputs)
        except Exception:  # the user's module may raise anything
            if not shared.changed():
                raise
            continue  # where half of a cache was found empty
        if _same([*sample.eager.values()], first):
            continue
        copy = flat.around(fresh())
        before = state_of(copy.module)
        with thread_count(1):
            again = run_module(flat, sample.inputs)
            with shared.restored():
                alone = run_module(copy, sample.inputs)
        eager = dict(zip(sample.eager, again, strict=False))
        if not _is_answer(alone, replace(sample, eager=eager)):
            through = changed(before, state_of(copy.module))
            raise _stateful(flat, through or shared.changed())


_ROUNDING: Final = 0.01
"""Of the largest value of an output; what is less exact proves nothing anyway."""


def _is_answer(answer: Sequence[Array], sample: Golden) -> bool:
    """Whether it is that of a sample, as of a backend: tables of other lengths round otherwise."""
    return len(answer) == len(sample.eager) and all(
        judge(name, sample.name, sample.measure(name, array), Thresholds()).status == "pass"
        and _is_near(array, sample.eager[name])
        for name, array in zip(sample.eager, answer, strict=True)
    )


def _is_near(one: Array, other: Array) -> bool:
    """Whether they differ by rounding: the oracle of a sample may have a state of its own."""
    if one.dtype.kind != "f":
        return True
    with np.errstate(invalid="ignore"):  # infinite ones are where they are in the other
        apart = np.nan_to_num(np.abs(one - other), posinf=0)
    largest = np.abs(other[np.isfinite(other)]).max(initial=0)
    return bool(np.all(apart <= _ROUNDING * largest))


def check_draws(flat: Flat, inputs: Mapping[str, Array]) -> str | None:
    """Refuse a module whose answer hangs on random numbers that two runs did not show.

    Returns:
        A sentence for the user on numbers that it draws although this answer is the same whichever
        they are: of a seed of its own, or for other inputs.

    Raises:
        SourceError: It draws random numbers: with the place, and what to do.
    """
    draws = _Draws(Map(flat))
    with torch.random.fork_rng(devices=[]):
        with contextlib.suppress(Exception), draws:  # a kernel may not bear to be watched
            run_module(flat, inputs)
        if not draws.operator:
            return None
        with thread_count(1):
            first, *others = (_seeded(flat, inputs, seed) for seed in _SEEDS)
    if not all(_same(first, other) for other in others):
        raise _drawn(flat, draws.told())
    return (
        f"{draws.told()} draws random numbers: an artefact may draw others, although the answers "
        "to the samples are the same whichever they are; draw them in __init__, and keep them in a "
        "buffer, or take them as an input of forward"
    )


def _seeded(flat: Flat, inputs: Mapping[str, Array], seed: int) -> list[Array]:
    torch.manual_seed(seed)
    return run_module(flat, inputs)


def _explained(flat: Flat, inputs: Mapping[str, Array]) -> SourceError:
    """Find the cause with copies, which all start from one state."""
    one, two, other = (_watched(flat, inputs, seed) for seed in (0, 0, 1))
    if not _same(one.outputs, two.outputs):
        return _unsteady(flat, one, two)
    through = changed(one.before, one.after)
    if one.draws.operator and not (_same(one.outputs, other.outputs) and through):
        return _drawn(flat, one.draws.told())
    if not _same(one.outputs, other.outputs):
        return _unsteady(flat, one, other)
    return _stateful(flat, through)


def _drawn(flat: Flat, what: str) -> SourceError:
    remedy = "draw them outside, and take them as an input of forward"
    if flat.training:
        remedy = "export its eval mode, which turns dropout off: leave --keep-training-mode out"
    problem = f"{kind_of(flat.module)} is not deterministic: {what} draws random numbers"
    return SourceError(problem, remedy=remedy)


def _unsteady(flat: Flat, one: "_Run", two: "_Run") -> SourceError:
    return SourceError(
        f"{kind_of(flat.module)} is not deterministic: two runs on one input differ, "
        f"first in {_first_apart(flat, one, two)}",
        remedy="remove what no seed of torch governs: random numbers of numpy or Python or of a "
        "torch.Generator, the time, addresses of memory (data_ptr, id), memory that was never set, "
        "and what is kept outside of the module, as a count in a hook or a global",
    )


def _stateful(flat: Flat, through: Sequence[str]) -> SourceError:
    names = ", ".join(through[:_MOST_NAMES]) or "something outside of its attributes"
    remedy = "take it as an input of forward and return it as an output; or compute it in __init__"
    if flat.training:
        remedy = f"export its eval mode: leave --keep-training-mode out; or {remedy}"
    return SourceError(
        f"{kind_of(flat.module)} keeps state: its answer depends on its calls before, through "
        f"{names}",
        remedy=remedy,
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a part of the module: what went in, and what came out."""

    path: str
    inputs: str
    outputs: str


@dataclass(frozen=True, slots=True)
class _Run:
    """A run that was watched.

    Attributes:
        calls: In the order in which they ended.
        draws: What drew random numbers in it.
    """

    outputs: Sequence[Array]
    calls: Sequence[_Call]
    draws: "_Draws"
    before: State
    after: State


def _watched(flat: Flat, inputs: Mapping[str, Array], seed: int) -> _Run:
    copy = flat.around(copied(flat.module))
    before = state_of(copy.module)
    calls: list[_Call] = []
    for path, part in copy.module.named_modules():
        if not isinstance(part, torch.jit.ScriptModule):
            _listen(path, part, calls)
    draws = _Draws(Map(copy))
    with torch.random.fork_rng(devices=[]), draws:
        torch.manual_seed(seed)
        outputs = run_module(copy, inputs)
    return _Run(outputs, calls, draws, before, state_of(copy.module))


def _listen(path: str, part: nn.Module, calls: list[_Call]) -> None:
    given: list[str] = []  # a stack: a part may call itself

    def begin(_: nn.Module, args: Any, kwargs: Any) -> None:
        given.append(digest([args, kwargs]))

    def end(_: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        calls.append(_Call(path, given.pop(), digest(result)))

    part.register_forward_pre_hook(begin, with_kwargs=True)
    part.register_forward_hook(end, with_kwargs=True)


def _first_apart(flat: Flat, one: _Run, other: _Run) -> str:
    """The first part that answered two things to one input: the innermost, which ends first."""
    for a, b in zip(one.calls, other.calls, strict=False):
        if a.path == b.path and a.inputs == b.inputs and a.outputs != b.outputs and a.path:
            return f"{a.path} ({kind_at(flat.module, a.path)})"
    return kind_of(flat.module)


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Sees the first operator that draws random numbers.

    Attention and rrelu only do so if they are told to drop something.
    """

    def __init__(self, layers: Map) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operator = ""
        self.place = Place()
        self._layers = layers

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        if self.operator or torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **given)
        before = torch.get_rng_state()
        result = func(*args, **given)
        own = any(isinstance(value, torch.Generator) for value in (*args, *given.values()))
        if own or not torch.equal(before, torch.get_rng_state()):
            self.operator = func._schema.name
            self.place = self._layers.in_frames(stack())
        return result

    def told(self) -> str:
        """The operator, its layer and its line."""
        where = f" in {self.place.layer}" if self.place.layer else ""
        line = f" ({self.place.line})" if self.place.line else ""
        return f"{self.operator}{where}{line}"


def _same(first: Sequence[Array], again: Sequence[Array]) -> bool:
    return len(first) == len(again) and all(
        a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(first, again, strict=True)
    )
