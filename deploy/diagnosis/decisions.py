"""Decisions: the places where forward reads a tensor's value into Python.

A recorded run (``torch.jit.trace``) keeps what was decided there for ever. If an ``if`` went the
same way in every sample, parity has not seen the other branch: the user should know.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .places import Map, stack
from .telling import only_tells
from .turns import Turns, asked_at

Kind = Literal["bool", "number", "array", "size", "chosen"]
"""``array``: many values at once, by tolist() or numpy(); ``size``: of a result, as of unique;
``chosen``: how many, as of nonzero, which may be none."""

Value = bool | int | float | complex

_MOST_VALUES: Final = 8
"""Distinct values that are kept of one place."""

_TENSOR: Final[Any] = torch.Tensor  # its special methods have no public names
_KINDS: Final[Mapping[object, Kind]] = {
    _TENSOR.__bool__: "bool",
    torch.is_nonzero: "bool",
    torch.equal: "bool",
    _TENSOR.equal: "bool",
    torch.allclose: "bool",
    _TENSOR.allclose: "bool",
    _TENSOR.__contains__: "bool",
    _TENSOR.item: "number",
    _TENSOR.__int__: "number",
    _TENSOR.__float__: "number",
    _TENSOR.__complex__: "number",
    _TENSOR.__index__: "number",
    _TENSOR.tolist: "array",
    _TENSOR.numpy: "array",
    _TENSOR.__array__: "array",
    torch.nonzero: "chosen",
    _TENSOR.nonzero: "chosen",
    torch.argwhere: "chosen",
    _TENSOR.argwhere: "chosen",
    torch.masked_select: "chosen",
    _TENSOR.masked_select: "chosen",
    torch.unique: "size",
    _TENSOR.unique: "size",
    torch.bincount: "size",
    _TENSOR.bincount: "size",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """One place that reads values.

    Attributes:
        kind: What is read.
        source: The user's line: ``model.py:42  if x.sum() > 0:``.
        layer: Path and class of the layer that runs it.
        values: The distinct ones that were seen, the first few of them; of an array, how many
            elements it had.
    """

    kind: Kind
    source: str
    layer: str | None
    values: tuple[Value, ...]


@dataclass(slots=True)
class Decisions:
    """What was recorded; iterate over it.

    Attributes:
        failed: The run raised under observation, so that nothing is known.
    """

    failed: bool = False
    _seen: dict[tuple[Kind, str, str | None], list[Value]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Decision]:
        return (Decision(*place, tuple(values)) for place, values in self._seen.items())

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, kind: Kind, source: str, layer: str | None, value: Value) -> None:
        """Keep a value that was read."""
        values = self._seen.setdefault((kind, source, layer), [])
        if (len(values) < _MOST_VALUES or value == 0) and value not in values:
            values.append(value)

    def discard(self) -> None:
        """Forget everything: part of a run proves nothing."""
        self.failed = True
        self._seen.clear()


@contextlib.contextmanager
def record_decisions(module: nn.Module) -> Iterator[Decisions]:
    """Record what the eager runs of a module inside the ``with`` block read.

    For runs of their own, whose results are thrown away: torch takes other paths when it is
    watched (no fused attention). If one raises, the exception ends the block and goes no further:
    nothing is recorded. Comparisons of numbers that were read before are not seen.

    What a module holds, and forward does not write to, is the same for all inputs; what is read to
    be told to people, in a log, decides nothing: neither is recorded.

    Args:
        module: What is run, to name its layers: a wrapper whose attribute ``module`` is the
            user's, or the user's itself.
    """
    decisions = Decisions()
    tensors = (*module.parameters(), *module.buffers())
    held = {id(each): each._version for each in tensors if not each.is_inference()}
    try:
        with _Watch(decisions, Map(module), held):
            yield decisions
    except Exception:  # the same run without a watcher succeeds, or tells its own error
        decisions.discard()


class Places(TorchFunctionMode):
    """Notes at which instructions of the user's code a truth or a number is read from a tensor.

    Also where what ``item()`` gives is compared, as it is.

    Args:
        turns: Is told which functions read numbers.

    Attributes:
        seen: They.
    """

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.seen: set[tuple[CodeType, int, bool]] = set()
        self._kept: dict[int, Any] = {}
        self._turns = turns

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Note it, and call the function."""
        kind = _KINDS.get(func)
        if kind in ("bool", "number"):
            self.note(sys._getframe(1), next(iter(args), None))
        user = _of_user(sys._getframe(1))
        is_asked = user.f_lasti in asked_at(user.f_code)
        if kind in ("number", "array") or (kind == "bool" and not is_asked):  # as of hot = bool(x)
            self._turns.reads(user)
        elif is_asked and kind is None:
            self._turns.are_of_tensors(user)
        result = func(*args, **(kwargs or {}))
        return _Item(result, self) if func is _TENSOR.item and type(result) is float else result

    def note(self, frame: FrameType, value: Any) -> None:
        """Note the instruction of the user's that led to a frame, and whether it reads a new value.

        ``bool(one and other)`` reads either of both.
        """
        frame = _of_user(frame)
        self.seen.add((frame.f_code, frame.f_lasti, id(value) in self._kept))
        self._kept[id(value)] = value


def _of_user(frame: FrameType) -> FrameType:
    while frame.f_back and frame.f_code.co_filename.startswith(_TORCH):
        frame = frame.f_back
    return frame


def _compared(name: str) -> Any:
    own = getattr(float, name)

    def compared(self: Any, *other: Any) -> Any:
        self.places.note(sys._getframe(1), self)
        return own(self, *other)

    return compared


class _Item(float):
    """What ``item()`` gives, which notes where it is compared."""

    places: Places

    def __new__(cls, value: float, places: Places) -> "_Item":
        made = super().__new__(cls, value)
        made.places = places
        return made

    __lt__, __le__, __gt__ = _compared("__lt__"), _compared("__le__"), _compared("__gt__")
    __ge__, __eq__, __ne__ = _compared("__ge__"), _compared("__eq__"), _compared("__ne__")
    __bool__ = _compared("__bool__")
    __hash__ = float.__hash__


_TORCH: Final = str(Path(torch.__file__).parent)


class _Watch(TorchFunctionMode):
    """Sees each call of a torch function from Python, before it is taken apart.

    A ``TorchDispatchMode`` sees ``aten::_local_scalar_dense`` for all of bool(), int() and item(),
    so that it can't tell them apart, and it has to handle every kernel.
    """

    def __init__(self, decisions: Decisions, layers: Map, held: Mapping[int, int]) -> None:
        super().__init__()
        self._decisions = decisions
        self._layers = layers
        self._held = held

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        with contextlib.suppress(Exception):  # never the reason that a run fails
            kind = _KINDS.get(func) or _kind_of_index(func, args)
            if kind is not None and not self._is_held(*args, **(kwargs or {})):
                self._record(kind, result)
        return result

    def _is_held(self, value: Any, *others: Any, **options: Any) -> bool:
        is_alone = not others and not options
        return is_alone and id(value) in self._held and self._held[id(value)] == value._version

    def _record(self, kind: Kind, result: Any) -> None:
        place = self._layers.in_frames(stack())
        if place.line is not None and not only_tells(place.line):
            self._decisions.add(kind, str(place.line), place.layer, _value(kind, result))


def _kind_of_index(func: object, args: tuple[Any, ...]) -> Kind | None:
    """``x[mask]``, ``x[:length]`` and ``torch.where(mask)`` have a size that depends on values."""
    if func is _TENSOR.__getitem__:
        indices = args[1] if isinstance(args[1], tuple) else (args[1],)
        if any(map(_is_mask, indices)):
            return "chosen"
        return "size" if any(map(_is_slice_by_values, indices)) else None
    return "chosen" if func is torch.where and len(args) == 1 else None


def _is_mask(index: object) -> bool:
    return isinstance(index, torch.Tensor) and index.dtype is torch.bool


def _is_slice_by_values(index: object) -> bool:
    ends = (index.start, index.stop) if isinstance(index, slice) else ()
    return any(isinstance(end, torch.Tensor) for end in ends)


def _value(kind: Kind, result: Any) -> Value:
    if kind == "array":
        return int(torch.as_tensor(result).numel())
    if kind in ("size", "chosen"):
        first = result[0] if isinstance(result, tuple) else result
        return int(first.shape[0])
    value: Value = result
    return value


def unexercised(decisions: Iterable[Decision]) -> tuple[Decision, ...]:
    """Branches that went one way in every sample, but for an ``assert``; and what chose some."""
    return tuple(decision for decision in decisions if _is_unexercised(decision))


def numbers(decisions: Iterable[Decision]) -> tuple[str, ...]:
    """The lines that take numbers out of tensors, which a trace holds."""
    taken = (each.source for each in decisions if each.kind in ("number", "array"))
    return tuple(dict.fromkeys(taken))


def taken_both_ways(decisions: Iterable[Decision]) -> tuple[Decision, ...]:
    """Branches of which samples took both, as of zeros, of which both may answer the same."""
    return tuple(each for each in decisions if _is_branch(each) and len(each.values) > 1)


def _is_unexercised(decision: Decision) -> bool:
    if decision.kind == "chosen":
        return 0 not in decision.values
    return _is_branch(decision) and len(decision.values) == 1


def _is_branch(decision: Decision) -> bool:
    return decision.kind == "bool" and "  assert " not in decision.source


def describe(decision: Decision, *, is_refused: bool = False) -> str:
    """A sentence for the user about a branch of which a file has one side, or what chose some.

    Args:
        decision: In the module.
        is_refused: Whether the file refuses what takes the other way.
    """
    line, _, code = decision.source.partition("  ")
    layer = f", in {decision.layer}," if decision.layer else ""
    if decision.kind == "chosen":
        return (
            f"{line}: `{code}`{layer} chose something in every sample, so what is answered where "
            "nothing is chosen is not proved: give such a sample, with --samples"
        )
    if len(decision.values) > 1:
        return (
            f"{line}: `{code}`{layer} went both ways in the samples, and the file has one, which "
            "is proved to answer as both on these alone: keep both, by torch.where(condition, a, b)"
        )
    lost = "the file refuses inputs that take the other"
    lost = lost if is_refused else "what the other branch computes is not proved"
    return (
        f"{line}: `{code}`{layer} went one way in every sample, so {lost}: "
        "give a sample that takes it, with --samples"
    )


def of_numbers_taken(source: str) -> str:
    """A sentence for the user about a line whose numbers a file has as samples have them."""
    line, _, code = source.partition("  ")
    return (
        f"{line}: `{code}` makes a number of values, and the file has those of the samples alone: "
        "it refuses inputs that have another; give samples with each, with --samples"
    )


def of_number(source: str) -> str:
    """A sentence for the user about a line that makes a number of values, which a file holds."""
    line, _, code = source.partition("  ")
    return (
        f"{line}: `{code}` makes a number of values, and the file holds that of the example: the "
        "samples come out right by it, but what forward decides by it for others is not proved"
    )
