"""Buffers that are bound to ONNX Runtime once, and used again whenever the shapes repeat.

``InferenceSession.run`` makes a ``RunOptions``, a feed and new outputs in every call, which costs
more than a small model itself. Bound buffers cost two copies of small tensors instead, and
``scripts/bench_overhead.py`` measures both; large tensors take the usual way. ONNX Runtime
refuses to write a result of another shape into a bound buffer, so nothing can go wrong silently.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import onnxruntime
from numpy import ndarray

from .inputs import Array
from .signature import Signature

LARGEST_BYTES: Final = 1 << 16
"""Inputs and outputs together: above it two copies cost more than they save."""

_MOST_SHAPES: Final = 128
"""As many as a server's batches have sizes; 8 MB at most, for one thread."""

_Shapes = tuple[tuple[int, ...], ...]
_Spare = dict[_Shapes, "list[_Buffers]"]
_Run = Callable[[Mapping[str, Array]], dict[str, Array] | None]


class BoundBuffers:
    """The bound buffers of one session. Safe to share between threads.

    A call has a set of buffers for itself: threads take them from a list per combination of input
    shapes, and put them back (``list.pop`` and ``list.append`` are atomic).

    Attributes:
        run: Computes every output in bound buffers; the caller owns what comes back. ``None`` if
            no buffers are free that fit, or they did not do: call the engine itself. What has
            buffers was checked when they were made, so only what an array could differ in is
            looked at: type, dtype and shape. Strides and alignment don't matter to a copy.
    """

    __slots__ = ("_bindable", "_outputs", "_plan", "_session", "_spare", "run")

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature) -> None:
        self._session = session
        self._plan = tuple((spec.name, np.dtype(spec.dtype)) for spec in signature.inputs)
        self._outputs = [spec.name for spec in signature.outputs]
        self._spare: _Spare = {}
        known = {size for spec in signature.inputs for size in spec.shape}
        sizes = {size for spec in signature.outputs for size in spec.shape}
        self._bindable = all(isinstance(size, int) or size in known for size in sizes)
        single = len(self._plan) == len(self._outputs) == 1
        self.run: _Run = (_one if single else _many)(session, self._plan, self._spare)

    def learn(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Bind buffers for calls like this one, unless their tensors are large.

        Args:
            arrays: Inputs in the order of the signature, which passed the check.
            outputs: What came of them.
        """
        if not self._bindable or not _small([*arrays, *outputs]):
            return
        if len(self._spare) >= _MOST_SHAPES:
            self._spare.clear()
        shapes = tuple([array.shape for array in arrays])
        self._spare.setdefault(shapes, []).append(self._bind(arrays, outputs))

    def _bind(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> "_Buffers":
        binding = self._session.io_binding()
        inputs = [np.empty_like(array, order="C") for array in arrays]
        results = [np.empty_like(output, order="C") for output in outputs]
        for (name, _), own in zip(self._plan, inputs, strict=True):
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(own))
        for name, own in zip(self._outputs, results, strict=True):
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(own))
        named = tuple(zip(self._outputs, results, strict=True))
        return _Buffers(binding._iobinding, tuple(inputs), named)


class _Buffers(NamedTuple):
    """What one call needs: ONNX Runtime reads and writes the memory of these arrays."""

    binding: object
    inputs: tuple[Array, ...]
    outputs: tuple[tuple[str, Array], ...]


def _many(
    session: onnxruntime.InferenceSession, plan: Sequence[tuple[str, Any]], spare: _Spare
) -> _Run:
    execute, options = _execute(session), onnxruntime.RunOptions()  # to make one costs a us

    def run(inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        arrays, shapes = [], []
        try:
            for name, dtype in plan:
                array = inputs[name]
                if type(array) is not ndarray or array.dtype is not dtype:
                    return None
                arrays.append(array)
                shapes.append(array.shape)
            if len(inputs) != len(arrays):
                return None
            free = spare[tuple(shapes)]
            buffers = free.pop()
        except Exception:  # shapes never seen, other threads have them all, or no mapping
            return None
        binding, own_inputs, own_outputs = buffers
        for own, array in zip(own_inputs, arrays):  # noqa: B905  # time is felt here
            own[...] = array
        try:
            execute(binding, options)
        except Exception:  # the usual way tells whether it was the buffers' fault
            return None
        outputs = {name: own.copy() for name, own in own_outputs}
        free.append(buffers)
        return outputs

    return run


def _one(
    session: onnxruntime.InferenceSession, plan: Sequence[tuple[str, Any]], spare: _Spare
) -> _Run:
    """The same for one input and one output: 1 us less, a tenth of a small model's call."""
    execute, options = _execute(session), onnxruntime.RunOptions()
    ((name, dtype),) = plan

    def run(inputs: Mapping[str, Array]) -> dict[str, Array] | None:
        try:
            array = inputs[name]
            if type(array) is not ndarray or array.dtype is not dtype or len(inputs) != 1:
                return None
            free = spare[(array.shape,)]
            buffers = free.pop()
        except Exception:
            return None
        binding, (own,), ((output, result),) = buffers
        own[...] = array
        try:
            execute(binding, options)
        except Exception:
            return None
        outputs = {output: result.copy()}
        free.append(buffers)
        return outputs

    return run


def _execute(session: onnxruntime.InferenceSession) -> Any:
    """What ``run_with_iobinding`` calls, without its look-ups for WebGPU: 1 us."""
    inner: Any = session._sess
    return inner.run_with_iobinding


def _small(tensors: Sequence[Array]) -> bool:
    return (
        all(tensor.size and tensor.dtype.kind in "fiub" for tensor in tensors)
        and sum(tensor.nbytes for tensor in tensors) <= LARGEST_BYTES
    )
