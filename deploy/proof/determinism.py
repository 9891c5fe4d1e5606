"""Does a module answer the same to the same input? If not: who is to blame.

A module that draws random numbers, or remembers its last call, has no answer that an artefact
could be compared with. Runs are compared bit by bit; torch's threads may add in another order each
time, so that a difference counts only if one thread shows it too.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgeport.deploy.diagnosis.places import Map, Place, stack
from edgeport.deploy.kinds import kind_at, kind_of
from edgeport.deploy.sources import trees
from edgeport.deploy.sources.flat import Flat
from edgeport.deploy.sources.modules import copied
from edgeport.deploy.sources.running import run_module
from edgeport.runtimes import SourceError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch.threads import thread_count

_MOST_NAMES: Final = 3

State: TypeAlias = Mapping[str, str]
"""Attribute (``encoder.cache``) -> digest of what is in it."""


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


def check_unchanged(
    flat: Flat, inputs: Mapping[str, Array], first: Sequence[Array], before: State
) -> None:
    """Refuse a module whose answer has changed since it ran on other inputs.

    Args:
        flat: The module.
        inputs: What it was run on.
        first: What it answered then.
        before: Its state of then, from ``state_of``.

    Raises:
        SourceError: It keeps state: with its name, and what to do.
    """
    if _same(first, run_module(flat, inputs)):
        return
    with thread_count(1):
        again = run_module(flat, inputs)
    if not _same(first, again) and (changed := _changed(before, state_of(flat.module))):
        raise _stateful(flat, changed)


def state_of(module: nn.Module) -> State:
    """A digest of every parameter, buffer and plain attribute of a module and its parts."""
    found: dict[str, str] = {}
    for path, part in module.named_modules():
        plain = {name: value for name, value in vars(part).items() if not name.startswith("_")}
        for name, value in {**plain, **part._buffers, **part._parameters}.items():
            found[f"{path}.{name}" if path else name] = _digest(value)
    return found


def _explained(flat: Flat, inputs: Mapping[str, Array]) -> SourceError:
    """Find the cause with copies, which all start from one state."""
    one, two, other = (_watched(flat, inputs, seed) for seed in (0, 0, 1))
    if not _same(one.outputs, two.outputs):
        return _unsteady(flat, one, two)
    if not _same(one.outputs, other.outputs):
        return _random(flat, one, other)
    return _stateful(flat, _changed(one.before, one.after))


def _random(flat: Flat, one: "_Run", other: "_Run") -> SourceError:
    where = f" in {one.random.layer}" if one.random.layer else ""
    line = f" ({one.random.line})" if one.random.line else ""
    what = f"{one.operator}{where}{line} draws random numbers"
    if not one.operator:
        what = f"{_first_apart(flat, one, other)} draws random numbers"
    remedy = "draw them outside, and take them as an input of forward"
    if flat.training:
        remedy = "export its eval mode, which turns dropout off: leave --keep-training-mode out"
    return SourceError(f"{kind_of(flat.module)} is not deterministic: {what}", remedy=remedy)


def _unsteady(flat: Flat, one: "_Run", two: "_Run") -> SourceError:
    return SourceError(
        f"{kind_of(flat.module)} is not deterministic: two runs on one input differ, "
        f"first in {_first_apart(flat, one, two)}",
        remedy="remove what no seed of torch governs: random numbers of numpy or Python, the time, "
        "memory that was never set",
    )


def _stateful(flat: Flat, changed: Sequence[str]) -> SourceError:
    names = ", ".join(changed[:_MOST_NAMES]) or "something outside of its attributes"
    return SourceError(
        f"{kind_of(flat.module)} keeps state: its answer depends on its calls before, through "
        f"{names}",
        remedy="take it as an input of forward and return it as an output; or compute it in "
        "__init__",
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
        operator, random: The first operator that drew random numbers, and where it is.
    """

    outputs: Sequence[Array]
    calls: Sequence[_Call]
    operator: str
    random: Place
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
    return _Run(outputs, calls, draws.operator, draws.place, before, state_of(copy.module))


def _listen(path: str, part: nn.Module, calls: list[_Call]) -> None:
    given: list[str] = []  # a stack: a part may call itself

    def begin(_: nn.Module, args: Any, kwargs: Any) -> None:
        given.append(_digest([args, kwargs]))

    def end(_: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        calls.append(_Call(path, given.pop(), _digest(result)))

    part.register_forward_pre_hook(begin, with_kwargs=True)
    part.register_forward_hook(end, with_kwargs=True)


def _first_apart(flat: Flat, one: _Run, other: _Run) -> str:
    """The first part that answered two things to one input: the innermost, which ends first."""
    for a, b in zip(one.calls, other.calls, strict=False):
        if a.path == b.path and a.inputs == b.inputs and a.outputs != b.outputs and a.path:
            return f"{a.path} ({kind_at(flat.module, a.path)})"
    return kind_of(flat.module)


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Sees the first operator that draws from torch's generator."""

    def __init__(self, layers: Map) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operator = ""
        self.place = Place()
        self._layers = layers

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not self.operator and torch.Tag.nondeterministic_seeded in func.tags:
            self.operator = func._schema.name
            self.place = self._layers.in_frames(stack())
        return func(*args, **(kwargs or {}))


def _changed(before: State, after: State) -> list[str]:
    return [name for name, digest in after.items() if before.get(name) != digest]


def _digest(value: object) -> str:
    """Of the tensors, arrays and plain values in it; of other objects nothing is known."""
    found = hashlib.blake2b(digest_size=16)
    for data in _data(value, set()):
        found.update(data)
    return found.hexdigest()


def _data(value: object, seen: set[int]) -> Iterator[bytes]:
    if isinstance(value, nn.Parameter):
        yield f"{id(value)} {value._version}".encode()  # large, and seldom written
    elif isinstance(value, torch.Tensor):
        yield f"{value.dtype}{list(value.shape)}".encode()
        if value.layout == torch.strided and not value.is_quantized and value.device.type == "cpu":
            whole = value.detach().resolve_conj().resolve_neg().contiguous()
            yield whole.view(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        yield value.tobytes()
    elif isinstance(value, trees.CONSTANTS):
        yield repr(value).encode()
    elif not isinstance(value, nn.Module) and id(value) not in seen:  # it may lead to itself
        seen.add(id(value))
        for key, child in trees.children(value):
            yield str(key).encode()
            yield from _data(child, seen)


def _same(first: Sequence[Array], again: Sequence[Array]) -> bool:
    return len(first) == len(again) and all(
        a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in zip(first, again, strict=True)
    )
