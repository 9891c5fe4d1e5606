"""Which axes of outputs are as long as values decide: ``x[mask]``, ``nonzero``, boxes that stay.

Samples may not tell: of boxes that are drawn, none covers another, and all stay. So the module is
run once more, and whatever chooses elements by values of its inputs chooses one less, or one where
there was none: an axis that is another length then is decided by values.
"""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from edgeport.runtimes.inputs import Array

from . import trees
from .flat import Flat
from .running import call

_ATEN: Final = torch.ops.aten

_INDEXED: Final = {_ATEN.index, _ATEN.index_put, _ATEN.index_put_}
"""Operators whose second argument is a list of indices, of which a mask is one."""

_MOST_CHOICES: Final = 100
"""After these it is as values say: a loop that ends when nothing is left would go on for ever."""

_SHAPE_ALONE: Final = {
    _ATEN.empty_like, _ATEN.full_like, _ATEN.new_empty, _ATEN.new_empty_strided, _ATEN.new_full,
    _ATEN.new_ones, _ATEN.new_zeros, _ATEN.ones_like, _ATEN.zeros_like,
}  # fmt: skip
"""Operators whose result has nothing of the values that they are given."""

_UNIQUE: Final = {_ATEN._unique2, _ATEN.unique_consecutive}
"""Operators that return values, where each element is among them, and how often."""


def decided_by_values(
    flat: Flat, inputs: Mapping[str, Array], arrays: Sequence[Array]
) -> list[set[int]]:
    """Of each output the axes whose length values decide.

    Args:
        flat: The module.
        inputs: Copied.
        arrays: What it answers to them.
    """
    tensors = [torch.tensor(array) for array in inputs.values()]
    otherwise = _ChoosesOtherwise(tensors)
    shapes: list[torch.Size] = []
    with (
        contextlib.suppress(Exception, SystemExit),  # which it may raise if it gets another number
        contextlib.redirect_stdout(io.StringIO()),
        otherwise,
    ):
        shapes = [tensor.shape for tensor in trees.tensors(call(flat, tensors))]
    if not otherwise.choices or [*map(len, shapes)] != [array.ndim for array in arrays]:
        return [set() for _ in arrays]
    return [
        {axis for axis, size in enumerate(shape) if size != array.shape[axis]}
        for shape, array in zip(shapes, arrays, strict=True)
    ]


class _ChoosesOtherwise(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Chooses one element more or less than the values say; ``choices`` is how often it did.

    Args:
        inputs: By what is made of these alone it chooses otherwise: a mask that is a buffer says
            the same for all values.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.choices = 0
        self._made_of_inputs: Any = WeakTensorKeyDictionary()  # activations may be large
        self._made_of_inputs.update(dict.fromkeys(inputs))

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        packet: Any = getattr(func, "overloadpacket", None)
        may_choose = self.choices < _MOST_CHOICES
        changed = self._otherwise(packet, args) if may_choose else None
        result = func(*(args if changed is None else changed), **(kwargs or {}))
        is_cut = changed is None and _has_any_length(func) and args[0].numel() > 0
        if may_choose and is_cut and self._is_made(args[0]):
            result = _of_another_length(packet, result)
            self.choices += 1
        self.choices += changed is not None
        if packet not in _SHAPE_ALONE and any(map(self._is_made, tree_leaves((args, kwargs)))):
            schema: Any = getattr(func, "_schema", None)
            changes = args[:1] if schema is not None and schema.is_mutable else ()
            wholes = (each._base for each in changes if isinstance(each, Tensor))  # of a view
            for each in (*tree_leaves(result), *changes, *wholes):
                if isinstance(each, Tensor):
                    self._made_of_inputs[each] = None
        return result

    def _is_made(self, value: object) -> bool:
        return isinstance(value, Tensor) and value in self._made_of_inputs

    def _otherwise(self, packet: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The arguments with another choice; nothing if they choose nothing."""
        if packet is _ATEN.nonzero and self._is_made(args[0]):
            return (_one_off(args[0] != 0),)
        if packet is _ATEN.masked_select and self._is_made(args[1]):
            return args[0], _one_off(args[1])
        if packet in _INDEXED:
            found = [
                _one_off(index) if _is_mask(index) and self._is_made(index) else index
                for index in args[1]
            ]
            if any(new is not old for new, old in zip(found, args[1], strict=True)):
                return args[0], found, *args[2:]
        return None


def _has_any_length(func: Any) -> bool:
    """Whether values decide how long its result is; ``x[i]`` says so always, torchvision never."""
    if func.overloadpacket in {*_INDEXED, _ATEN.nonzero, _ATEN.masked_select}:
        return False
    return torch.Tag.dynamic_output_shape in func.tags or str(func) == "torchvision.nms.default"


def _of_another_length(packet: Any, result: Any) -> Any:
    """Without the last one, if there are two; counts, which have a least length, with one more."""
    if packet is _ATEN.bincount:
        return torch.nn.functional.pad(result, (0, 1))
    if isinstance(result, Tensor):
        return result[: max(len(result) - 1, 1)]
    if packet in _UNIQUE and len(result[0]) > 1:
        values, places, counts = result
        return values[:-1], places.clamp(max=len(values) - 2), counts[:-1]
    return result


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool


def _one_off(mask: Tensor) -> Tensor:
    """Without the last one that is chosen, or with the first if none is."""
    flat = mask.flatten().clone()
    if flat.any():
        flat[flat.nonzero()[-1]] = False
    else:
        flat[:1] = True
    return flat.reshape(mask.shape)
