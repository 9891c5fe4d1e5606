"""Which axes of outputs are as long as values decide: ``x[mask]``, ``nonzero``, boxes that stay.

Samples may not tell: of boxes that are drawn, none covers another, and all stay. So the module is
run once more, and whatever chooses elements by their values chooses one less, or one where there
was none: an axis that is another length then is decided by values.
"""

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from edgeport.runtimes import SourceError
from edgeport.runtimes.inputs import Array

from .flat import Flat
from .running import run_or_explain

_ATEN: Final = torch.ops.aten

_INDEXED: Final = {_ATEN.index, _ATEN.index_put, _ATEN.index_put_}
"""Operators whose second argument is a list of indices, of which a mask is one."""


def decided_by_values(
    flat: Flat, inputs: Mapping[str, Array], arrays: Sequence[Array]
) -> list[set[int]]:
    """Of each output the axes whose length values decide.

    Args:
        flat: The module.
        inputs: Copied.
        arrays: What it answers to them.
    """
    otherwise = _ChoosesOtherwise()
    try:
        with contextlib.redirect_stdout(io.StringIO()), otherwise:
            found = run_or_explain(flat, inputs, {}).arrays
    except SourceError:  # which the module may raise if it gets another number
        found = []
    if not otherwise.has_chosen or [a.ndim for a in found] != [a.ndim for a in arrays]:
        return [set() for _ in arrays]
    return [
        {axis for axis in range(a.ndim) if a.shape[axis] != b.shape[axis]}
        for a, b in zip(found, arrays, strict=True)
    ]


class _ChoosesOtherwise(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Chooses one element more or less than the values say; ``has_chosen`` if it did."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.has_chosen = False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        changed = _otherwise(getattr(func, "overloadpacket", None), args)
        result = func(*(args if changed is None else changed), **(kwargs or {}))
        is_cut = changed is None and isinstance(result, Tensor) and _has_any_length(func)
        self.has_chosen = self.has_chosen or is_cut or changed is not None
        return result[: max(len(result) - 1, 1)] if is_cut else result


def _otherwise(packet: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The arguments with another choice; nothing if they choose nothing."""
    if packet is _ATEN.nonzero:
        return (_one_off(args[0] != 0),)
    if packet is _ATEN.masked_select:
        return args[0], _one_off(args[1])
    if packet in _INDEXED and any(_is_mask(index) for index in args[1]):
        return args[0], [_one_off(i) if _is_mask(i) else i for i in args[1]], *args[2:]
    return None


def _has_any_length(func: Any) -> bool:
    """Whether values decide how long its result is; ``x[i]`` says so always, torchvision never."""
    if func.overloadpacket in _INDEXED:
        return False
    return torch.Tag.dynamic_output_shape in func.tags or str(func) == "torchvision.nms.default"


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
