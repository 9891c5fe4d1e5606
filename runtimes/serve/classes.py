"""The classification extension: the largest values of an output, with index and label.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeport.runtimes.errors import InputError
from edgeport.runtimes.inputs import Array


def classify(name: str, array: Array, count: int, labels: Sequence[str]) -> Array:
    """Name the largest values along the last axis.

    Args:
        name: The output's, for an error.
        array: (..., classes) numbers.
        count: How many; all of them if there are fewer.
        labels: Names of the classes; empty if nobody knows them.

    Returns:
        (..., count) object: ``b"value:index"`` or ``b"value:index:label"``, largest first; of equal
        values the one with the lower index is first, and NaN is last.

    Raises:
        InputError: The output is no row of numbers.
    """
    if array.ndim == 0 or array.dtype.kind not in "fiu":
        raise InputError(
            f"output {name!r} is {array.dtype}{list(array.shape)}, which has no classes",
            remedy="ask for its values: leave 'classification' out",
        )
    rows = array.reshape(-1, array.shape[-1]) if array.size else array.reshape(0, array.shape[-1])
    count = min(count, array.shape[-1])
    order = np.argsort(_descending(rows), axis=1, kind="stable")[:, :count]
    texts = [
        [_text(row[index], int(index), labels) for index in places]
        for row, places in zip(rows, order, strict=True)
    ]
    answer = np.empty((len(rows), count), object)
    for index, row_texts in enumerate(texts):
        answer[index] = row_texts
    return answer.reshape(*array.shape[:-1], count)


def _descending(rows: Array) -> Array:
    if rows.dtype.kind == "f":
        return -rows
    return ~rows  # -x - 1: neither overflows nor wraps, for unsigned ones too


def _text(value: Any, index: int, labels: Sequence[str]) -> bytes:
    number = f"{float(value):f}" if value.dtype.kind == "f" else str(value.item())
    label = f":{labels[index]}" if index < len(labels) else ""
    return f"{number}:{index}{label}".encode()
