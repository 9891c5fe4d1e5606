"""Numbers that a script makes of values, ``x.std().item()``: tensors without axes, in float64.

Of a symbol of such a number, torch saves no condition, passes none to a branch or a loop, and has
few operators in its exporter to ONNX (2.13). A condition on one is a tensor too.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from edgeport.deploy.compilers.operators.symbols import truth


def number(x: Any) -> Any:
    """What ``item`` gives: of whole numbers, a symbol, which may be a size."""
    if isinstance(x, Tensor) and x.is_floating_point():
        return x.reshape(()).to(torch.float64, copy=True)
    return x.item() if isinstance(x, Tensor) else x


def places(node: Any, args: Sequence[Any]) -> list[int]:
    """Where a node is given such numbers."""
    pairs = enumerate(zip(node.inputs(), args, strict=True))
    return [
        place
        for place, (value, arg) in pairs
        if isinstance(arg, Tensor) and value.type().kind() in ("FloatType", "NumberType")
    ]


def both(x: Any, y: Any) -> Any:
    """As ``and``, of conditions."""
    return operator.and_(*_alike(x, y))


def either(x: Any, y: Any) -> Any:
    """As ``or``, of conditions."""
    return operator.or_(*_alike(x, y))


def _alike(x: Any, y: Any) -> tuple[Any, Any]:
    if isinstance(x, torch.SymBool) and isinstance(y, Tensor):
        return truth(x), y
    return (x, truth(y)) if isinstance(x, Tensor) and isinstance(y, torch.SymBool) else (x, y)


def least(*numbers: Any) -> Any:
    """As torch.jit's ``min``."""
    return _first(min, operator.lt, numbers)


def most(*numbers: Any) -> Any:
    """As torch.jit's ``max``."""
    return _first(max, operator.gt, numbers)


def _first(own: Any, is_before: Callable[[Any, Any], Any], numbers: Sequence[Any]) -> Any:
    if any(isinstance(each, Tensor) for each in numbers):
        x, y = numbers
        return torch.where(is_before(x, y), x, y)
    has_float = any(isinstance(each, float) for each in numbers)
    return own(*reversed(numbers)) if has_float else own(*numbers)  # it has them so, as to NaN


def on_tensors(overload: Any, args: Sequence[Any], among: Sequence[int]) -> tuple[Any, list[Any]]:
    """The overload of an operator that takes tensors in place of numbers, and what to give it.

    Args:
        overload: Of the operator, on numbers.
        args: What it is given.
        among: Where the numbers are in it.

    Returns:
        Where there is none, the same overload, and symbols for numbers.
    """
    dtype = _dtype_beside(arg for place, arg in enumerate(args) if place not in among)
    packet = overload.overloadpacket
    kinds = _kinds(overload)
    for other in (getattr(packet, name) for name in packet.overloads()):
        takes = [*map(_takes_tensor, _kinds(other))]
        pairs = zip(_kinds(other), kinds, takes, strict=False)
        alike = len(takes) == len(kinds) and all(
            takes_one or str(kind) == str(own) for kind, own, takes_one in pairs
        )
        if alike and all(takes[place] for place in among):
            return other, [
                _as_tensor(arg, dtype)
                if place in among or (takes[place] and isinstance(arg, int | float))
                else arg
                for place, arg in enumerate(args)
            ]
    return overload, [arg.item() if place in among else arg for place, arg in enumerate(args)]


def _as_tensor(number: Any, dtype: torch.dtype) -> Tensor:
    """A branch holds no constants, of which this makes none."""
    is_tensor = isinstance(number, Tensor)
    return number.to(dtype) if is_tensor else torch.full((), number, dtype=dtype)


def _dtype_beside(others: Any) -> torch.dtype:
    """What a number is computed in: as the tensors, or as torch takes it beside whole numbers."""
    dtypes = [other.dtype for other in others if isinstance(other, Tensor)]
    if not dtypes:
        return torch.float64
    found = functools.reduce(torch.promote_types, dtypes)
    return found if found.is_floating_point or found.is_complex else torch.get_default_dtype()


def _kinds(overload: Any) -> list[Any]:
    return [argument.type for argument in overload._schema.arguments]


def _takes_tensor(kind: Any) -> bool:
    kind = kind.getElementType() if isinstance(kind, torch.OptionalType) else kind
    return isinstance(kind, torch.TensorType)
