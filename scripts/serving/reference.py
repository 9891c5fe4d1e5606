"""What a server must answer: the same bundle, run in this process on inputs drawn at random."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.runtimes import Bundle, Options, Signature, TensorSpec
from edgeport.runtimes.inputs import Array


@dataclass(frozen=True, slots=True)
class Case:
    """One request and its answer."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


class Reference:
    """A bundle in this process.

    Attributes:
        name: As clients name it.
        signature: What goes in and out.
    """

    def __init__(self, path: Path) -> None:
        bundle = Bundle.read(path)
        self.name = bundle.manifest.name
        self.signature: Signature = bundle.manifest.signature
        self._session = bundle.open("ort-cpu", Options(threads=1))
        self._random = np.random.default_rng(0)

    def case(self, rows: int = 1) -> Case:
        """Draw inputs and compute their outputs; every free dimension is ``rows``."""
        inputs = {spec.name: self._draw(spec, rows) for spec in self.signature.inputs}
        return Case(inputs, self._session.run(inputs))

    def _draw(self, spec: TensorSpec, rows: int) -> Array:
        shape = [rows if isinstance(size, str) else size for size in spec.shape]
        dtype = np.dtype(spec.dtype)
        if dtype.kind == "f":
            return self._random.standard_normal(shape).astype(dtype)
        if dtype.kind == "b":
            return self._random.integers(0, 2, shape).astype(dtype)
        limits = np.iinfo(dtype)
        return self._random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def wrong(found: Mapping[str, Any], case: Case) -> str | None:
    """Say what is wrong with an answer; ``None`` if it is right.

    Args:
        found: Output name -> array, or what ``numpy.asarray`` takes.
        case: What was asked.
    """
    for name, expected in case.outputs.items():
        if name not in found:
            return f"no output {name!r}"
        array = np.asarray(found[name])
        if array.dtype != expected.dtype or array.shape != expected.shape:
            return f"{name!r} is {array.dtype}{array.shape}, not {expected.dtype}{expected.shape}"
        if expected.dtype.kind != "f":
            if not np.array_equal(array, expected):
                return f"{name!r} differs"
        elif not _close(array, expected):
            return f"{name!r} is off by {np.abs(array - expected).max()}"
    return None


def _close(array: Array, expected: Array) -> bool:
    """Equal in half of the digits of the largest value: batches round otherwise, and a row of
    somebody else, or one computed wrongly, is off in the first."""
    wide = expected.astype(np.float64)
    scale = max(float(np.abs(wide).max(initial=0.0)), float(np.finfo(expected.dtype).tiny))
    limit = math.sqrt(float(np.finfo(expected.dtype).eps)) * scale
    off = float(np.abs(array.astype(np.float64) - wide).max(initial=0.0))
    return math.isfinite(off) and off <= limit
