"""Which inputs are timed: a golden sample's, repeated along the dimensions that were asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeport.runtimes.bundles.bundle import Bundle
from edgeport.runtimes.bundles.golden import Golden
from edgeport.runtimes.errors import FormatError, UsageError
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.rows import row_dimension
from edgeport.runtimes.signature import Range, Signature
from edgeport.runtimes.sizes import size_at


@dataclass(frozen=True, slots=True)
class Workload:
    """Sizes of named dimensions; a dimension that is not named keeps the sample's own size.

    Attributes:
        batch: Rows of axis 0, if the model has a named dimension there.
        sizes: Of other dimensions, by name.
    """

    batch: int = 1
    sizes: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return ", ".join([f"batch {self.batch}", *(f"{name} {size}" for name, size in self.sizes)])


@dataclass(frozen=True, slots=True, eq=False)  # arrays have no single truth value
class Feed:
    """The inputs of a workload.

    Attributes:
        sample: The golden sample that they are made of.
        inputs: By name.
        rows: How many rows one call answers: the batch, or 1 without such a dimension.
    """

    sample: str
    inputs: Mapping[str, Array]
    rows: int


def fitting_rows(bundles: Sequence[Bundle], rows: int) -> int:
    """Rows that every bundle takes: those, or the nearest that all of them do, but never none.

    Raises:
        UsageError: No number of rows fits all of them.
    """
    taken = [_rows_of(bundle.manifest.signature) for bundle in bundles]
    ends = [range_.max for range_ in taken if range_.max is not None]
    step = math.lcm(*(range_.step for range_ in taken))
    try:
        common = Range(max(r.min for r in taken), min(ends, default=None), step=step)
    except FormatError as e:
        each = ", ".join(f"{b.path} {range_}" for b, range_ in zip(bundles, taken, strict=True))
        raise UsageError(
            f"no number of rows fits all of the bundles: {each}", remedy="measure them one by one"
        ) from e
    return common.nearest(max(rows, common.step))


def refuse_rows_twice(bundles: Sequence[Bundle], names: Collection[str]) -> None:
    """Refuse sizes that say what a batch says.

    Args:
        bundles: What is timed, with batches that were asked for.
        names: Of the dimensions whose sizes were asked for too.

    Raises:
        UsageError: The rows of a bundle are one of them.
    """
    for bundle in bundles:
        rows = row_dimension(bundle.manifest.signature)
        if rows in names:
            raise UsageError(
                f"the batch of {bundle.manifest.name!r} is its dimension {rows!r}, and sizes were "
                "asked for of both",
                remedy=f"give --batch, or --shape {rows}=",
            )


def _rows_of(signature: Signature) -> Range:
    dimension = row_dimension(signature)
    return Range(1, 1) if dimension is None else signature.range_of(dimension)


def feed(bundle: Bundle, workload: Workload) -> Feed:
    """Take the first golden sample of real or random values and give it the sizes asked for.

    Raises:
        UsageError: The model does not take these sizes, or the bundle holds no such sample.
        IntegrityError: The golden samples are not those that were packed.
    """
    signature, name = bundle.manifest.signature, bundle.manifest.name
    dimension = row_dimension(signature)
    if dimension is None and workload.batch != 1:
        raise UsageError(
            f"a batch of {workload.batch} was asked for, but no input of {name!r} has a "
            f"named dimension on axis 0: {signature}",
            remedy="leave --batch out, or export the model again with a batch dimension",
        )
    sizes = dict(workload.sizes)
    for unknown in sizes.keys() - {*signature.dimensions}:
        raise UsageError(
            f"no input of {name!r} has a dimension {unknown!r}: {signature}",
            remedy=f"it has {', '.join(sorted(signature.dimensions)) or 'no named dimension'}",
        )
    if dimension is not None:
        sizes = {dimension: workload.batch, **sizes}
    for each, size in sizes.items():
        if size not in signature.range_of(each):
            what = "a batch" if each == dimension else each
            raise UsageError(
                f"{what} of {size} was asked for, but {name!r} takes {each} "
                f"in {signature.range_of(each)}",
                remedy=f"choose {'--batch' if each == dimension else '--shape'} in that range",
            )
    sample = _first(bundle)
    found = {
        str(size): sample.inputs[spec.name].shape[axis]
        for spec in signature.inputs
        for axis, size in enumerate(spec.shape)
        if size in signature.dimensions
    }
    inputs = {
        spec.name: _repeated(
            sample.inputs[spec.name], [size_at(size, found | sizes) for size in spec.shape]
        )
        for spec in signature.inputs
    }
    return Feed(sample.name, inputs, 1 if dimension is None else sizes[dimension])


def _first(bundle: Bundle) -> Golden:
    for sample in bundle.golden():
        if sample.kind != "edge" and all(array.size for array in sample.inputs.values()):
            return sample
    raise UsageError(
        f"{bundle.path} holds no golden sample of real or random values to time",
        remedy="export the model again with --samples",
    )


def _repeated(array: Array, shape: Sequence[int]) -> Array:
    for axis, size in enumerate(shape):
        if size != array.shape[axis]:
            array = np.take(array, np.arange(size), axis=axis, mode="wrap")
    return np.array(array)  # a golden sample is a view of a file: read-only, maybe not aligned
