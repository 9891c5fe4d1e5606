"""Eager once more, on inputs that are moved by a rounding error or two: what hangs on it."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Signature
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.parity.thresholds import DEFAULT_MAX_RATIO
from edgeport.runtimes.parity.verdict import FEW_ELEMENTS

_LOOKS: Final = 4
"""Moved inputs of a drawn sample, as long as eager gets neither near the bar nor far from it."""


def hangs_on_rounding(source: Source, sample: Golden) -> bool:
    """Whether integers or bools change when the inputs change by about one rounding error."""
    exact = [name for name, array in sample.eager.items() if array.dtype.kind != "f"]
    if not exact or not any(array.dtype.kind == "f" for array in sample.inputs.values()):
        return False
    generator = np.random.default_rng(0)
    near = {name: _jittered(array, generator) for name, array in sample.inputs.items()}
    try:
        again = named(source.signature, run_module(source.flat, near))
    except Exception:  # the user's module may raise anything
        return True
    return not all(np.array_equal(again[name], sample.eager[name]) for name in exact)


def is_lucky(source: Source, sample: Golden) -> bool:
    """Whether eager itself would fail, if the inputs moved by a rounding error or two."""
    if not any(array.dtype.kind == "f" and array.any() for array in sample.inputs.values()):
        return False
    generator = np.random.default_rng(0)
    for _ in range(_LOOKS):
        near = moved(sample.inputs, generator)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                answers = named(source.signature, run_module(source.flat, near))
        except Exception:  # the user's module may raise anything
            return False
        figures = [sample.measure(name, answer) for name, answer in answers.items()]
        judged = [f for f in figures if f.rule == "oracle" and not f.mismatch]
        ratio = max((f.ratio for f in judged if f.elements >= FEW_ELEMENTS), default=0.0)
        if not DEFAULT_MAX_RATIO / 4 < ratio <= DEFAULT_MAX_RATIO:
            return ratio > DEFAULT_MAX_RATIO
    return False


def moved(inputs: Mapping[str, Array], generator: np.random.Generator) -> dict[str, Array]:
    """Floats up or down by 2 eps of their size; the largest stay finite.

    All of a dtype at once: of a table with 3,000 columns each is an input.
    """
    found = dict(inputs)
    for dtype in dict.fromkeys(array.dtype for array in inputs.values() if array.dtype.kind == "f"):
        names = [name for name, array in inputs.items() if array.dtype == dtype]
        flat = np.concatenate([inputs[name].ravel() for name in names])
        info = np.finfo(dtype)
        steps = 2 * info.eps * generator.choice([-1, 1], flat.shape)
        with np.errstate(over="ignore"):
            near = (flat * (1 + steps)).astype(dtype)
        near = np.where(np.isfinite(flat), np.clip(near, info.min, info.max), flat)
        ends = np.cumsum([inputs[name].size for name in names])
        for name, part in zip(names, np.split(near, ends[:-1]), strict=True):
            found[name] = part.reshape(inputs[name].shape)
    return found


def _jittered(array: Array, generator: np.random.Generator) -> Array:
    if array.dtype.kind != "f":
        return array
    scale = np.finfo(array.dtype).eps * max(1.0, float(np.abs(array).max(initial=0.0)))
    near: Array = array + scale * generator.standard_normal(array.shape)
    return near.astype(array.dtype)


def named(signature: Signature, arrays: Sequence[Array]) -> dict[str, Array]:
    """Outputs by their names."""
    return {spec.name: array for spec, array in zip(signature.outputs, arrays, strict=True)}
