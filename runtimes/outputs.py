"""The one check of outputs: an engine may answer something else than its artefact declares.

ONNX Runtime only logs a shape that is not the declared one, and torch knows of no declaration.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from .errors import EngineError
from .inputs import Array
from .signature import Signature, TensorSpec
from .sizes import sum_of

_MOST_SHAPES: Final = 1024


class OutputCheck:
    """Check answers against a signature, once for each combination of input shapes.

    The dtypes and sizes of an answer follow from the shapes of its inputs, save where values
    decide; so a repeated combination costs one look into a set. Safe to share between threads.
    """

    __slots__ = ("_alone", "_seen", "_signature")

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._alone = len(signature.inputs) == 1
        self._seen: set[object] = set()

    def __call__(self, arrays: Sequence[Array], outputs: Mapping[str, Array]) -> None:
        """Check an answer, unless inputs of these shapes had one that was right.

        Args:
            arrays: Inputs in the order of the signature, which passed the check.
            outputs: By name.

        Raises:
            EngineError: As ``check_outputs``.
        """
        key = arrays[0].shape if self._alone else tuple([array.shape for array in arrays])
        if key in self._seen:
            return
        check_outputs(self._signature, [array.shape for array in arrays], outputs)
        if len(self._seen) >= _MOST_SHAPES:
            self._seen.clear()
        self._seen.add(key)


def check_outputs(
    signature: Signature, shapes: Sequence[tuple[int, ...]], outputs: Mapping[str, Array]
) -> None:
    """Compare an answer with what a signature says of it.

    A named size is the one that the inputs have, or the first output that has it; one of no input
    is bound only by a range that was declared for it: 0 is a right number of things found.

    Args:
        signature: Of the artefact.
        shapes: Of the inputs in its order, which fit it.
        outputs: By name.

    Raises:
        EngineError: An output is missing, or its dtype, rank or a size is another.
    """
    sizes = {
        size: (found, f"input {spec.name!r}")
        for spec, shape in zip(signature.inputs, shapes, strict=True)
        for size, found in zip(spec.shape, shape, strict=True)
    }
    for spec in signature.outputs:
        array = outputs.get(spec.name)
        if array is None:
            raise _misfit(f"output {spec.name!r} is missing")
        if array.dtype != spec.dtype:
            raise _misfit(f"output {spec.name!r} is {array.dtype}, declared as {spec.dtype}")
        if array.ndim != len(spec.shape):
            raise _misfit(
                f"output {spec.name!r} has {array.ndim} axes {list(array.shape)}, "
                f"declared as {spec}"
            )
        for axis, (size, declared) in enumerate(zip(array.shape, spec.shape, strict=True)):
            if isinstance(declared, int):
                right, expected = size == declared, f"declared as {declared}"
            elif declared in sizes:
                known, owner = sizes[declared]
                right, expected = size == known, f"but {declared!r} is {known} in {owner}"
            elif (follows := _follows(declared, sizes)) is not None:
                right, expected = size == follows, f"but {declared!r} is {follows}"
            else:
                sizes[declared] = size, f"output {spec.name!r}"
                range_ = signature.ranges.get(declared)
                right = range_ is None or size in range_
                expected = f"declared as {declared} in {range_}"
            if not right:
                raise _wrong_size(spec, array, axis, expected)


def _follows(declared: str, sizes: Mapping[int | str, tuple[int, str]]) -> int | None:
    """How long an axis is that was seen to follow others."""
    follows = sum_of(declared)
    if follows is None or not follows.factors.keys() <= sizes.keys():
        return None
    return follows.at({name: sizes[name][0] for name in follows.factors})


def _wrong_size(spec: TensorSpec, array: Array, axis: int, expected: str) -> EngineError:
    shape = list(array.shape)
    return _misfit(
        f"output {spec.name!r} has shape {shape}: axis {axis} is {shape[axis]}, {expected}"
    )


def _misfit(problem: str) -> EngineError:
    return EngineError(
        problem,
        remedy="export the model again, with a sample of these sizes: what it declares does not "
        "hold",
    )
