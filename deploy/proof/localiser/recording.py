"""Record a run of torch: of the eager module, of TorchScript, of an exported program.

All of them call the same operators through one dispatcher, where a mode sees each call with its
tensors. Who computed which tensor is known by the tensor's identity.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary, WeakTensorKeyDictionary

from edgeport.deploy.sources.running import documented_attention
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.libtorch.failures import last_line

from .trace import Frame, Trace, Value, places

_DEEPEST: Final = 60
"""Python frames that are kept of a call: the user's line is among the innermost."""

_UNWRITTEN: Final = ("empty", "new_empty")
"""What these answer is whatever was in memory: a place to write to, no value."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Stands for a value in a recorded call."""

    number: int


@dataclass(frozen=True, slots=True)
class Call:
    """A torch operator with its arguments; tensors are ``Reference``s."""

    function: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: int | None


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types here
    """Records every operator that runs inside the ``with`` block.

    Args:
        limit: How many elements of a value are kept.
        whole: Numbers of values that are kept whole.
        replayable: Keep calls and weights, to run a part again.
    """

    supports_higher_order_operators = True

    def __init__(
        self, limit: int, *, whole: frozenset[int] = frozenset(), replayable: bool = False
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.values: list[Value] = []
        self.weights: dict[int, torch.Tensor] = {}
        self.node = ""
        self.failed: tuple[str, str] | None = None
        self._limit = limit
        self._whole = whole
        self._replayable = replayable
        self._modules: list[str] = []
        self._numbers: WeakIdKeyDictionary = WeakTensorKeyDictionary()
        self._versions: WeakIdKeyDictionary = WeakTensorKeyDictionary()
        self._writers: dict[int, int] = {}
        self._writes: dict[int, int] = {}
        self._names: WeakIdKeyDictionary = WeakTensorKeyDictionary()

    def name(self, module: nn.Module) -> None:
        """Learn the names of a module's weights."""
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            self._names[tensor] = name

    def add_input(self, name: str, tensor: torch.Tensor) -> None:
        """Learn an input."""
        self._add("", name, (), tensor, varies=True)

    def number_of(self, tensor: torch.Tensor) -> int:
        """The number of a tensor's present value."""
        memory = _memory(tensor)
        if tensor not in self._numbers:
            name = str(self._names[tensor]) if tensor in self._names else ""
            owner = name.rpartition(".")[0] if name else None
            made = self._add("", name, (), tensor, varies=False, module=owner)
            if self._replayable:
                self.weights[made] = tensor
        elif self._versions[tensor] != self._writes.get(memory, 0):  # somebody wrote into it
            before = int(self._numbers[tensor])
            writer = self._writers[memory]
            told = self.values[writer]
            sources = tuple(dict.fromkeys((before, writer)))
            self._add(told.operator, told.name, sources, tensor, module=told.module)
        return int(self._numbers[tensor])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        read = [*_tensors(args), *_tensors(tuple(kwargs.values()))]
        sources = tuple(dict.fromkeys(map(self.number_of, read)))
        call = self._call(func, args, kwargs) if self._replayable else None
        try:
            result = func(*args, **kwargs)
        except Exception:
            self.failed = self.failed or (self.node, _operator(func))
            raise
        for tensor in _written(func, args, kwargs):
            memory = _memory(tensor)
            self._writes[memory] = self._writes.get(memory, 0) + 1
            self._writers.setdefault(memory, len(self.values) - 1)  # if it answers with nothing
        single = isinstance(result, torch.Tensor)
        found = [*_tensors(result)]
        frames = _frames() if found and not self._replayable else ()
        for index, tensor in enumerate(found):
            number = self._add(
                "" if _operator(func).startswith(_UNWRITTEN) else _operator(func),
                self.node,
                sources,
                tensor,
                module=self._modules[-1] if self._modules else None,
                frames=frames,
                view=_is_view(func),
                call=call and Call(*call, None if single else index),
            )
            self._writers[_memory(tensor)] = number
        return result

    def _call(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
        args, kwargs = tree_map_only(
            torch.Tensor, lambda t: Reference(self.number_of(t)), (args, kwargs)
        )
        return func, args, kwargs

    def _add(
        self,
        operator: str,
        name: str,
        sources: tuple[int, ...],
        tensor: torch.Tensor,
        *,
        varies: bool | None = None,
        **rest: Any,
    ) -> int:
        number = len(self.values)
        if varies is None:
            varies = any(self.values[source].varies for source in sources)
        limit = sys.maxsize if number in self._whole else self._limit
        kept = _kept(tensor, limit)
        self.values.append(
            Value(number, operator, name, sources, varies, tuple(tensor.shape), kept, **rest)
        )
        self._numbers[tensor] = number
        self._versions[tensor] = self._writes.get(_memory(tensor), 0)
        return number

    @contextlib.contextmanager
    def following(self, module: nn.Module) -> Iterator[None]:
        """Note which of the module's parts runs."""
        paths: dict[int, str] = {id(part): path for path, part in module.named_modules()}

        def enter(part: nn.Module, _: Any) -> None:
            if id(part) in paths:
                self._modules.append(paths[id(part)])

        def leave(part: nn.Module, *_: Any) -> None:
            if id(part) in paths and self._modules:
                self._modules.pop()

        hooks = [
            register_module_forward_pre_hook(enter),
            register_module_forward_hook(leave, always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            self._modules.clear()


def record(
    run: Callable[[list[torch.Tensor]], Iterable[torch.Tensor]],
    recorder: Recorder,
    inputs: Mapping[str, Array],
    outputs: Iterable[str],
    *,
    partial: bool = False,
) -> Trace:
    """Run torch code and note every value.

    Args:
        run: Takes the inputs, gives the outputs.
        recorder: Its values end up in the trace.
        inputs: By name, in the order of ``run``.
        outputs: Names of what ``run`` gives, in order.
        partial: Return what was computed before an exception.

    Raises:
        Exception: Whatever the code raises.
    """
    tensors = [torch.tensor(array) for array in inputs.values()]
    with documented_attention(), torch.no_grad():
        for name, tensor in zip(inputs, tensors, strict=True):
            recorder.add_input(name, tensor)
        try:
            with recorder:
                found = list(run(tensors))
        except Exception as e:  # compiled code raises anything
            if not partial:
                raise
            return Trace(recorder.values, {}, last_line(e), recorder.failed)
        numbers = [recorder.number_of(tensor) for tensor in found]
    return Trace(recorder.values, dict(zip(outputs, numbers, strict=True)))


def _tensors(tree: object) -> Iterator[torch.Tensor]:
    """The tensors of an operator's arguments or results: alone, or in tuples and lists."""
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from _tensors(part)


def _kept(tensor: torch.Tensor, limit: int) -> Array:
    plain = tensor.detach()
    if plain.is_quantized or plain.layout != torch.strided or plain.is_complex():
        return np.zeros(0, np.float32)
    plain = plain.float() if plain.dtype == torch.bfloat16 else plain
    flat = plain.reshape(-1)
    if flat.numel() > limit:
        flat = flat[torch.from_numpy(places(flat.numel(), limit))]
    array: Array = flat.numpy().copy()
    return array


def _operator(func: Any) -> str:
    name = str(getattr(func, "_overloadpacket", None) or getattr(func, "__name__", func))
    return name.replace("aten.", "", 1)


def _is_view(func: Any) -> bool:
    schema = getattr(func, "_schema", None)
    return schema is not None and any(
        r.alias_info is not None and not r.alias_info.is_write for r in schema.returns
    )


def _written(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    """The arguments that an operator writes into."""
    schema = getattr(func, "_schema", None)
    for index, argument in enumerate(schema.arguments if schema is not None else ()):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[index] if index < len(args) else kwargs.get(argument.name)
            yield from _tensors(given)


def _memory(tensor: torch.Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError):  # sparse
        return id(tensor)


def _frames() -> tuple[Frame, ...]:
    frame = sys._getframe(2)
    found: list[Frame] = []
    while frame is not None and len(found) < _DEEPEST:
        found.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]  # ends with None
    return tuple(found)
