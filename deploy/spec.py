"""The way a person writes an input: ``tokens=int64[batch<=64,time:4..512]``."""

import re
from collections.abc import Sequence
from typing import Final

from edgeport.runtimes import Range, TensorSpec, UsageError
from edgeport.runtimes.signature import DTYPES

_INPUT: Final = re.compile(r"\s*([\w.-]+)\s*=\s*(\w+)\s*\[([^\]]*)\]\s*")
_DIMENSION: Final = re.compile(r"([A-Za-z_]\w*)(?:<=(\d+)|:(\d+)\.\.(\d+)?)?")


def parse_inputs(texts: Sequence[str]) -> tuple[tuple[TensorSpec, ...], dict[str, Range]]:
    """Read inputs as a person writes them.

    A dimension is a number (fixed), a name (free), ``name<=MAX`` or ``name:MIN..MAX``.

    Raises:
        UsageError: A text cannot be read, or two give one dimension different ranges.

    Examples:
        >>> specs, ranges = parse_inputs(["tokens=int64[batch,time:4..512]"])
        >>> print(specs[0], ranges["time"])
        tokens: int64[batch, time] 4..512
    """
    specs: list[TensorSpec] = []
    ranges: dict[str, Range] = {}
    for text in texts:
        match = _INPUT.fullmatch(text)
        if match is None:
            raise _unreadable(text, "it is not NAME=DTYPE[SIZES]")
        name, dtype, sizes = match.groups()
        if dtype not in DTYPES:
            raise _unreadable(text, f"{dtype!r} is not a dtype ({', '.join(DTYPES)})")
        shape = tuple(_dimension(size, text, ranges) for size in sizes.split(",") if sizes.strip())
        specs.append(TensorSpec(name, dtype, shape))
    return tuple(specs), ranges


def _dimension(size: str, text: str, ranges: dict[str, Range]) -> int | str:
    size = size.strip()
    if size.isdecimal():
        return int(size)
    match = _DIMENSION.fullmatch(size)
    if match is None:
        raise _unreadable(text, f"{size!r} is not a size")
    name, most, low, high = match.groups()
    if most is None and low is None:
        return name
    top = most or high
    if top is not None and int(top) < int(low or 1):
        raise _unreadable(text, f"{size!r} ends before it begins")
    found = Range(int(low or 1), None if top is None else int(top))
    if ranges.setdefault(name, found) != found:
        raise _unreadable(text, f"{name!r} has another range in another input")
    return name


def _unreadable(text: str, problem: str) -> UsageError:
    return UsageError(
        f"cannot read the input {text!r}: {problem}",
        remedy="write it like image=float32[batch,3,224,224] or tokens=int64[batch<=8,time:4..512]",
    )
