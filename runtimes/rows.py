"""Where the rows of a tensor are: along the free dimension that leads an input.

That is axis 0 mostly; an LSTM takes (batch, time, features) beside a state of (layers, batch,
units).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from .errors import UsageError
from .inputs import Array
from .signature import Signature, TensorSpec
from .sizes import sum_of

_APART: Final = 0.05
"""Of the largest number: a neighbour changes much more."""

_ROUNDED: Final = 1e-3
"""Of the largest number of all rows: as far as float16 rounds what nearly cancels in one."""


def row_dimension(signature: Signature) -> str | None:
    """The first free dimension that leads an input, if one does; not a size that follows it."""
    free = signature.dimensions
    leading = (spec.shape[0] for spec in signature.inputs if spec.shape)
    return next((str(size) for size in leading if size in free), None)


def row_axis(spec: TensorSpec, dimension: str | None) -> int | None:
    """The axis along which a tensor has its rows; ``None`` if it has none.

    Args:
        spec: An input or an output.
        dimension: What ``row_dimension`` says of its signature. Where that is no dimension of the
            tensor, rows are along its first axis, unless the size of that is fixed or follows
            others alone.

    Examples:
        >>> row_axis(TensorSpec("state", "float32", (2, "batch", 8)), "batch")
        1
        >>> row_axis(TensorSpec("scale", "float32", (3,)), "batch")
    """
    if dimension in spec.shape:
        return spec.shape.index(dimension)
    if not spec.shape or dimension is None:
        return 0 if spec.shape else None
    first = spec.shape[0]
    if isinstance(first, int):
        return None
    follows = sum_of(first)
    return 0 if follows is None or dimension in follows.factors else None


def rows_first(signature: Signature, answer: Mapping[str, Array]) -> dict[str, Array | None]:
    """The outputs with their rows along axis 0; ``None`` for one that has none."""
    dimension = row_dimension(signature)
    axes = {spec.name: row_axis(spec, dimension) for spec in signature.outputs}
    return {name: _moved(array, axes.get(name, 0)) for name, array in answer.items()}


def _moved(array: Array, axis: int | None) -> Array | None:
    return np.moveaxis(array, axis, 0) if axis is not None and axis < array.ndim else None


def cut(array: Array, axis: int | None, rows: slice) -> Array:
    """Some rows; an array that has none is the same for all."""
    return array if axis is None else array[(slice(None),) * axis + (rows,)]


def require_apart(
    signature: Signature,
    ask: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    inputs: Mapping[str, Array],
    answer: Mapping[str, Array],
    precision: str,
) -> None:
    """See that rows may be answered in parts: the last ones of a part alone are answered alike.

    Args:
        signature: Of the model.
        ask: Runs it.
        inputs: A part.
        answer: What the model answered to it.
        precision: What it computes in. In int8, the largest numbers of all rows decide how each
            is rounded, and which integer it comes to.

    Raises:
        UsageError: They are not, as the steps of a sequence, or a row of which a mean is taken.
    """
    whole = rows_first(signature, answer)
    for name, alone in rows_first(signature, ask(_last(signature, inputs))).items():
        beside = whole[name]
        if alone is None or beside is None or not _is_alike(alone, beside, precision):
            raise UsageError(
                f"output {name!r} of a row depends on the rows beside it, and there are more than "
                "are answered at once",
                remedy="use edgeport.runtimes.open and run it from Python",
            )


def _last(signature: Signature, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
    """As few of the last rows as the model takes."""
    dimension = row_dimension(signature)
    if dimension is None:
        return inputs
    allowed = signature.range_of(dimension)
    rows = slice(-max(allowed.min, allowed.step), None)
    axes = {spec.name: row_axis(spec, dimension) for spec in signature.inputs}
    return {name: cut(array, axes[name], rows) for name, array in inputs.items()}


def _is_alike(alone: Array, whole: Array, precision: str) -> bool:
    beside = whole[-len(alone) :]
    is_coarse = precision == "int8"
    if alone.shape != beside.shape:
        return False
    if alone.dtype.kind != "f":
        return is_coarse or np.array_equal(alone, beside)
    rounded = (_APART if is_coarse else _ROUNDED) * _largest(whole)
    return np.allclose(
        alone, beside, rtol=0, atol=max(_APART * _largest(beside), rounded), equal_nan=True
    )


def _largest(array: Array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))
