"""Where the rows of a tensor are: along the free dimension that leads an input.

That is axis 0 mostly; an LSTM takes (batch, time, features) beside a state of (layers, batch,
units).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .inputs import Array
from .signature import Signature, TensorSpec


def row_dimension(signature: Signature) -> str | None:
    """The first free dimension that leads an input, if one does."""
    leading = (spec.shape[0] for spec in signature.inputs if spec.shape)
    return next((size for size in leading if isinstance(size, str)), None)


def row_axis(spec: TensorSpec, dimension: str | None) -> int | None:
    """The axis along which a tensor has its rows; ``None`` if it has none.

    Args:
        spec: An input or an output.
        dimension: What ``row_dimension`` says of its signature. Where that is no dimension of the
            tensor, rows are along its first axis, unless the size of that is fixed.

    Examples:
        >>> row_axis(TensorSpec("state", "float32", (2, "batch", 8)), "batch")
        1
        >>> row_axis(TensorSpec("scale", "float32", (3,)), "batch")
    """
    if dimension in spec.shape:
        return spec.shape.index(dimension)
    leads = bool(spec.shape) and (dimension is None or isinstance(spec.shape[0], str))
    return 0 if leads else None


def rows_first(signature: Signature, answer: Mapping[str, Array]) -> dict[str, Array | None]:
    """The outputs with their rows along axis 0; ``None`` for one that has none."""
    dimension = row_dimension(signature)
    axes = {spec.name: row_axis(spec, dimension) for spec in signature.outputs}
    return {name: _moved(array, axes.get(name, 0)) for name, array in answer.items()}


def _moved(array: Array, axis: int | None) -> Array | None:
    return np.moveaxis(array, axis, 0) if axis is not None and axis < array.ndim else None
