"""Which inputs are timed: a golden sample's, its rows repeated to the batch asked for."""

import numpy as np

from edgeport.runtimes.bundle import Bundle
from edgeport.runtimes.errors import UsageError
from edgeport.runtimes.golden import Golden
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import Signature


def batch_dimension(signature: Signature) -> str | None:
    """The first named dimension that an input has on axis 0."""
    leading = (spec.shape[0] for spec in signature.inputs if spec.shape)
    return next((size for size in leading if isinstance(size, str)), None)


def batch_inputs(bundle: Bundle, batch: int) -> tuple[str, dict[str, Array]]:
    """Take the first golden sample of real or random values and give it ``batch`` rows.

    Returns:
        The sample's name, and its inputs.

    Raises:
        UsageError: The model does not take this batch, or the bundle holds no such sample.
        IntegrityError: The golden samples are not those that were packed.
    """
    signature = bundle.manifest.signature
    dimension = batch_dimension(signature)
    if dimension is None and batch != 1:
        raise UsageError(
            f"a batch of {batch} was asked for, but no input of {bundle.manifest.name!r} has a "
            f"named dimension on axis 0: {signature}",
            remedy="leave --batch out, or export the model again with a batch dimension",
        )
    if dimension is not None and batch not in signature.range_of(dimension):
        raise UsageError(
            f"a batch of {batch} was asked for, but {bundle.manifest.name!r} takes {dimension} "
            f"in {signature.range_of(dimension)}",
            remedy="choose --batch in that range",
        )
    sample = _first(bundle)
    inputs = {
        spec.name: _repeated(sample.inputs[spec.name], spec.shape, dimension, batch)
        for spec in signature.inputs
    }
    return sample.name, inputs


def _first(bundle: Bundle) -> Golden:
    for sample in bundle.golden():
        if sample.kind != "edge" and all(array.size for array in sample.inputs.values()):
            return sample
    raise UsageError(
        f"{bundle.path} holds no golden sample of real or random values to time",
        remedy="export the model again with --samples",
    )


def _repeated(
    array: Array, shape: tuple[int | str, ...], dimension: str | None, batch: int
) -> Array:
    for axis, size in enumerate(shape):
        if size == dimension:
            array = np.take(array, np.arange(batch), axis=axis, mode="wrap")
    return np.array(array)  # a golden sample is a view of a file: read-only, maybe not aligned
