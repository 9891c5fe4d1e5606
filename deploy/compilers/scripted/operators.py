"""What each operator of a script computes: on tensors as torch, on lists and numbers as Python.

Private API of torch 2.13, as in ``converter``.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch._export.converter import _TORCH_DTYPE_TO_ENUM, get_op_overload
from torch.fx.experimental.symbolic_shapes import statically_known_true

from edgeport.deploy.compilers.operators import comparisons
from edgeport.deploy.compilers.operators.free_sizes import WHILE_CAPTURED, square_root

from . import numbers

_sym_max: Any = torch.sym_max  # it has no types


def _divided(over: Any, by: Any, rounds: str | None = None) -> Any:
    """A trace has tensors in place of sizes, and operators on tensors."""
    quotient = over // by if rounds == "floor" else over / by
    return math.trunc(quotient) if rounds == "trunc" else quotient


_ON_NUMBERS: Final[Mapping[str, Callable[..., Any]]] = {
    "aten::add": lambda x, y, times=1: x + y * times if times != 1 else x + y,
    "aten::sub": lambda x, y, times=1: x - y * times,
    "aten::rsub": lambda x, y, times=1: y - x * times,
    "aten::mul": operator.mul,
    "aten::div": _divided,
    "aten::pow": operator.pow,
    "aten::floordiv": operator.floordiv,
    "aten::floor_divide": operator.floordiv,
    "aten::remainder": operator.mod,
    "aten::neg": operator.neg,
    "aten::gt": operator.gt,
    "aten::ge": operator.ge,
    "aten::lt": operator.lt,
    "aten::le": operator.le,
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "prim::abs": abs,
    "prim::min": numbers.least,
    "prim::max": numbers.most,
}
"""Operators of TorchScript on numbers and lists of numbers, which torch.ops does not run."""


def _range_length(start: Any, end: Any, step: int) -> Any:
    count = -((start - end) // step) if step > 0 else -((end - start) // -step)
    return count if statically_known_true(count >= 0) else _sym_max(count, 0)


_PRIMITIVES: Final[Mapping[str, Callable[..., Any]]] = {
    "prim::ListConstruct": lambda *parts: [*parts],
    "prim::TupleConstruct": lambda *parts: parts,
    "prim::TupleIndex": operator.getitem,
    "prim::NumToTensor": lambda number: number,  # a size that a trace has turned to a tensor
    "prim::Uninitialized": lambda: None,
    "prim::unchecked_cast": lambda value: value,
    "prim::dtype": lambda x: _number_of(x.dtype),
    "prim::device": lambda x: x.device,
    "aten::__getitem__": operator.getitem,
    "aten::__contains__": operator.contains,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__not__": lambda x: x.logical_not() if isinstance(x, Tensor) else not x,
    "aten::__and__": numbers.both,
    "aten::__or__": numbers.either,
    "aten::Bool": lambda x: x.bool() if isinstance(x, Tensor) else x != 0,
    "aten::Int": lambda x: x.long().item() if isinstance(x, Tensor) else _whole(x),
    "aten::item": numbers.number,
    "aten::ScalarImplicit": numbers.number,
    "aten::FloatImplicit": numbers.number,
    "aten::ceil": lambda x: x.ceil() if isinstance(x, Tensor) else math.ceil(x),
    "aten::floor": lambda x: x.floor() if isinstance(x, Tensor) else math.floor(x),
    "aten::sqrt": lambda x: x.sqrt() if isinstance(x, Tensor) else square_root(x),
    "aten::Float": lambda x: numbers.number(x.double()) if isinstance(x, Tensor) else float(x),
    "aten::equal": comparisons.are_equal,
    "aten::allclose": comparisons.are_close,
    "aten::len": lambda x: x.shape[0] if isinstance(x, Tensor) else len(x),
    "aten::dim": lambda x: x.dim(),
    "aten::numel": lambda x: math.prod(x.shape),
    "aten::format": lambda text, *parts: text.format(*parts),
    "aten::_set_item": operator.setitem,
    "aten::append": lambda parts, part: parts.append(part),
    "aten::list": list,
    "aten::__range_length": _range_length,
    "aten::__derive_index": lambda turn, start, step: start + turn * step,
}


_OF_SIZES: Final[Mapping[str, Callable[..., Any]]] = {
    f"aten::{name}": function for owner, name, function in WHILE_CAPTURED if owner is torch
}
"""What torch's own operators take a free size for a constant in."""


class Grown(NamedTuple):
    """A list to which each turn of a loop has added a tensor of one shape."""

    before: list[Tensor]
    added: Tensor  # (turns, ...)

    def stacked(self) -> Tensor:
        """All its parts, along a new first axis."""
        parts = [torch.stack(self.before)] if self.before else []
        return torch.cat([*parts, self.added])


def _joined(grown: Grown, dim: int = 0) -> Tensor:
    stacked = grown.stacked()
    dim %= stacked.ndim - 1
    return stacked.movedim(0, dim).flatten(dim, dim + 1)


_ON_GROWN: Final[Mapping[str, Callable[..., Any]]] = {
    "aten::stack": lambda grown, dim=0: grown.stacked().movedim(0, dim),
    "aten::cat": _joined,
    "aten::len": lambda grown: len(grown.before) + grown.added.shape[0],
    "aten::__getitem__": lambda grown, place: grown.stacked().select(0, place),
}


def computed(node: Any, args: Sequence[Any]) -> Any:
    """What a node that holds no blocks computes.

    Raises:
        NotImplementedError: It meets a list that grew in a loop, and cannot be said of one.
        RuntimeError: It raises, or torch does.
    """
    kind = node.kind()
    if args and isinstance(args[0], Grown):
        if kind not in _ON_GROWN:
            raise NotImplementedError(f"a list grows in a loop, and meets {kind} after it")
        return _ON_GROWN[kind](*args)
    if kind == "aten::unbind" and type(args[0].shape[args[1]]) is torch.SymInt:
        return Grown([], args[0].movedim(args[1], 0))
    if kind == "aten::split" and (parts := _split(*args)) is not None:
        return parts
    if kind == "aten::add_" and isinstance(args[0], list):
        args[0].extend(args[1])
        return args[0]
    if kind == "aten::slice" and isinstance(args[0], list):
        return args[0][slice(*args[1:])]
    if kind == "aten::tensor" and isinstance(args[0], Tensor):  # a number that is made of values
        own = torch.get_default_dtype() if args[0].is_floating_point() else args[0].dtype
        return args[0].to(_dtype_of(args[1]) or own, copy=True)
    if kind == "aten::tensor" and _is_number(args[0]):
        return torch.full((), args[0], dtype=_dtype_of(args[1]))  # a branch holds no constant
    if kind in _PRIMITIVES:
        return _PRIMITIVES[kind](*args)
    if kind == "prim::RaiseException":
        raise RuntimeError(f"forward raises {args[0]}")
    scalars = numbers.places(node, args)
    tensors = [place for place, arg in enumerate(args) if isinstance(arg, Tensor)]
    if kind in _ON_NUMBERS and tensors == scalars:
        return _ON_NUMBERS[kind](*args)
    if kind == "aten::size":
        return args[0].shape[args[1]] if len(args) == 2 else [*args[0].shape]
    overload: Any = get_op_overload(node)
    if scalars:
        overload, args = numbers.on_tensors(overload, args, scalars)
    if kind in _OF_SIZES and any(type(arg) is torch.SymInt for arg in args):
        return _of_size(_OF_SIZES[kind], overload, args)
    pairs = [*zip(overload._schema.arguments, args, strict=False)]
    if any(isinstance(argument.type, torch.TensorType) and _is_number(v) for argument, v in pairs):
        overload = overload.overloadpacket  # another is for numbers
    return overload(
        *(value for argument, value in pairs if not argument.kwarg_only),
        **{argument.name: value for argument, value in pairs if argument.kwarg_only},
    )


def _split(x: Any, size: Any, dim: int = 0) -> Grown | None:
    """Parts of one size along a free axis, if they are all of it."""
    length = x.shape[dim]
    whole = isinstance(size, int) and statically_known_true(length % size == 0)
    if type(length) is not torch.SymInt or not whole:
        return None
    return Grown([], x.unflatten(dim, (length // size, size)).movedim(dim % x.dim(), 0))


def _of_size(function: Callable[..., Any], overload: Any, args: Sequence[Any]) -> Any:
    """What is written otherwise of a free size: it is called as from Python."""
    pairs = [*zip(overload._schema.arguments, args, strict=False)]
    named = {each.name: v for each, v in pairs if each.kwarg_only and v not in (None, False)}
    if "dtype" in named:
        named["dtype"] = _dtype_of(named["dtype"])
    return function(*(value for each, value in pairs if not each.kwarg_only), **named)


def _is_number(value: Any) -> bool:
    """Also a size, which is a tensor in a trace: see ``prim::NumToTensor``."""
    return isinstance(value, int | float | torch.SymInt | torch.SymFloat)


def constant(node: Any) -> Any:
    """The value of a ``prim::Constant``."""
    return node.output().toIValue()


def _whole(number: Any) -> Any:
    """A symbol stays one."""
    is_number = isinstance(number, float | bool | torch.SymFloat)
    return math.trunc(number) if is_number else number


def _dtype_of(number: int | None) -> torch.dtype | None:
    return next((own for own, each in _TORCH_DTYPE_TO_ENUM.items() if each == number), None)


def _number_of(dtype: torch.dtype) -> int:
    found: int = _TORCH_DTYPE_TO_ENUM[dtype]
    return found
