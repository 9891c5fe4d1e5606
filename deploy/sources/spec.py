"""The way a person writes an input: ``tokens=int64[batch<=64,time:4..512:4]``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from edgeport.runtimes import FormatError, Range, TensorSpec, UsageError
from edgeport.runtimes.signature import DTYPES
from edgeport.runtimes.sizes import spelled, sum_of

_INPUT: Final = re.compile(r"\s*(\w+(?:\.\w+)*)\s*=\s*(\w+)\s*\[([^\]]*)\]\s*")
_DIMENSION: Final = re.compile(r"([A-Za-z_]\w*)(?:(?:<=(\d+)|:(\d+)\.\.(\d+)?)(?::(\d+))?)?")
_NARROW: Final = "bfloat16"


@dataclass(frozen=True, slots=True)
class Declared:
    """Inputs as a person declared them.

    Attributes:
        specs: One per tensor; ``hx.0`` is named ``hx_0``, and bfloat16 is passed as float32.
        ranges: Of the free dimensions.
        arguments: Of forward: trees of empty tensors, in the dtypes that forward takes.
    """

    specs: tuple[TensorSpec, ...]
    ranges: Mapping[str, Range]
    arguments: Mapping[str, Any]


def parse_inputs(texts: Sequence[str]) -> Declared:
    """Read inputs as a person writes them.

    A dimension is a number (fixed), a name (free), ``name<=MAX`` or ``name:MIN..MAX``. A
    range may have a step, ``name:MIN..MAX:STEP``: then only its multiples are allowed. What follows
    others is written as their sum, ``past+time`` or ``2*height-1``. Dots lead
    into an argument: ``hx.0`` and ``hx.1`` are a tuple, ``batch.ids`` is in a dict.

    Raises:
        UsageError: A text cannot be read, or two do not go together.

    Examples:
        >>> found = parse_inputs(["tokens=int64[batch,time:4..512]"])
        >>> print(found.specs[0], found.ranges["time"])
        tokens: int64[batch, time] 4..512
    """
    specs: list[TensorSpec] = []
    ranges: dict[str, Range] = {}
    tensors: dict[str, Any] = {}
    for text in texts:
        match = _INPUT.fullmatch(text)
        if match is None:
            raise _unreadable(text, "it is not NAME=DTYPE[SIZES]")
        path, dtype, sizes = match.groups()
        if dtype not in (*DTYPES, _NARROW):
            raise _unreadable(text, f"{dtype!r} is not a dtype ({', '.join((*DTYPES, _NARROW))})")
        shape = tuple(_dimension(size, text, ranges) for size in sizes.split(",") if sizes.strip())
        if path in tensors:
            raise _unreadable(text, "there is such an input already")
        name = path.replace(".", "_")
        specs.append(TensorSpec(name, "float32" if dtype == _NARROW else dtype, shape))
        tensors[path] = torch.empty(0, dtype=getattr(torch, dtype))
    return Declared(tuple(specs), ranges, nested(tensors))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of forward from values by path: ``hx.0`` and ``hx.1`` become a tuple.

    Raises:
        UsageError: Two values have one place.
    """
    arguments: dict[str, Any] = {}
    for path, value in values.items():
        _place(arguments, path.split("."), value, path)
    return {name: _with_tuples(tree) for name, tree in arguments.items()}


def _place(arguments: dict[str, Any], path: list[str], value: object, text: str) -> None:
    *folders, last = path
    for folder in folders:
        arguments = arguments.setdefault(folder, {})
        if not isinstance(arguments, dict):
            break
    if not isinstance(arguments, dict) or last in arguments:
        raise UsageError(
            f"{text!r} has the place of another input",
            remedy="name each input once; hx.0 and hx.1 are parts of hx, which is no input itself",
        )
    arguments[last] = value


def _with_tuples(tree: Any) -> Any:
    """Dicts whose keys count from 0 are tuples."""
    if not isinstance(tree, dict):
        return tree
    children = {key: _with_tuples(child) for key, child in tree.items()}
    if set(children) == {str(index) for index in range(len(children))}:
        return tuple(children[str(index)] for index in range(len(children)))
    return children


def _dimension(size: str, text: str, ranges: dict[str, Range]) -> int | str:
    size = size.strip()
    if size.isdecimal():
        return int(size)
    match = _DIMENSION.fullmatch(size)
    if match is None and sum_of(spelled(size)) is not None:
        return spelled(size)
    if match is None:
        raise _unreadable(text, f"{size!r} is not a size")
    name, most, low, high, step = match.groups()
    if most is None and low is None:
        return name
    top = most or high
    if top is not None and int(top) < int(low or 1):
        raise _unreadable(text, f"{size!r} ends before it begins")
    try:
        found = Range(int(low or 1), None if top is None else int(top), step=int(step or 1))
    except FormatError as e:
        raise _unreadable(text, e.problem) from e
    if ranges.setdefault(name, found) != found:
        raise _unreadable(text, f"{name!r} has another range in another input")
    return name


def _unreadable(text: str, problem: str) -> UsageError:
    return UsageError(
        f"cannot read the input {text!r}: {problem}",
        remedy="write it like image=float32[batch,3,224,224], tokens=int64[batch<=8,time:4..512] "
        "or, for multiples of 32, image=float32[batch,3,height:32..512:32,224]; or, where sizes "
        "follow others, mask=int64[batch,past+time]",
    )
