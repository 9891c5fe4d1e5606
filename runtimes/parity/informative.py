"""Whether an output can tell a right backend from a wrong one at all."""

from collections.abc import Sequence

import numpy as np

from edgeport.runtimes.inputs import Array


def uninformative(references: Sequence[Array]) -> bool:
    """Whether an output cannot tell a right backend from a wrong one: it never changes.

    It holds one value everywhere, or the same rows along its first axis, or it is the same on
    every sample; or it holds no number at all but NaN and Inf.

    Args:
        references: Eager's output on each sample.
    """
    arrays = [np.atleast_1d(array) for array in references if array.size]
    if not arrays or (arrays[0].dtype.kind == "f" and not any(map(_any_finite, arrays))):
        return True
    first = arrays[0]
    one_value = all(_same(array, first.flat[0]) for array in arrays)
    one_row = all(a.shape[1:] == first.shape[1:] and _same(a, first[:1]) for a in arrays)
    one_answer = all(a.shape == first.shape and _same(a, first) for a in arrays)
    several = len(arrays) > 1
    return one_value or (one_row and (several or len(first) > 1)) or (one_answer and several)


def _same(a: Array, b: Array) -> bool:
    """Whether two arrays are equal once broadcast, NaN included."""
    return bool(((a == b) | ((a != a) & (b != b))).all())


def _any_finite(array: Array) -> bool:
    return bool(np.isfinite(array).any())
