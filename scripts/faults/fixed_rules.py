"""The rules that tools use today: one random sample, fixed tolerances, compared with eager."""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array


def allclose(actual: Array, eager: Array) -> bool:
    """``numpy.allclose`` with atol = rtol = 1e-5."""
    return bool(np.allclose(actual, eager, rtol=1e-5, atol=1e-5, equal_nan=True))


def absolute_and_relative(actual: Array, eager: Array) -> bool:
    """No element is off by more than 1e-5 both absolutely and relative to eager's."""
    off, share = _differences(actual, eager)
    return not bool(((off > 1e-5) & (share > 1e-5)).any())


def torch_onnx(actual: Array, eager: Array) -> bool:
    """What ``torch.onnx.export(verify=True)`` of torch 2.13 warns of, taken for a failure.

    ``torch/onnx/_internal/exporter/_core.py``: largest absolute difference of 5e-3 or more, or
    largest relative difference of 1e-1 or more.
    """
    off, share = _differences(actual, eager)
    return bool(off.max(initial=0) < 5e-3 and share.max(initial=0) < 1e-1)


def cosine(actual: Array, eager: Array) -> bool:
    """Cosine similarity of the flattened outputs of at least 0.997."""
    a, b = (array.astype(np.float64).ravel() for array in (actual, eager))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return bool(np.array_equal(a, b))
    return float(a @ b) / norms >= 0.997


FIXED: Final[Mapping[str, Callable[[Array, Array], bool]]] = {
    "allclose 1e-5": allclose,
    "abs and rel 1e-5": absolute_and_relative,
    "torch 5e-3, 1e-1": torch_onnx,
    "cosine 0.997": cosine,
}


def passes(rule: str, actual: Mapping[str, Array], eager: Mapping[str, Array]) -> bool:
    """Whether every output passes; another shape never does."""
    return all(
        actual[name].shape == array.shape and FIXED[rule](actual[name], array)
        for name, array in eager.items()
    )


def _differences(actual: Array, eager: Array) -> tuple[Array, Array]:
    """Absolute difference, and relative to eager; NaN at the same place is none."""
    a, b = actual.astype(np.float64), eager.astype(np.float64)
    with np.errstate(all="ignore"):
        off = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        off = np.where(np.isnan(off), np.inf, off)
        share = np.where(off == 0, 0.0, np.where(np.isinf(off), np.inf, off / np.abs(b)))
    return off, share
