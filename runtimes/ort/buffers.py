"""Buffers that are bound to ONNX Runtime: what ``InferenceSession.run`` makes in every call, once.

That is a ``RunOptions``, a feed and new outputs. ONNX Runtime refuses to write a result of another
shape into a bound buffer, so nothing can go wrong silently.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime

from edgeport.runtimes.bound_buffers import Bound
from edgeport.runtimes.inputs import Array
from edgeport.runtimes.signature import Signature


class OrtBinder:
    """Binds buffers to a session, if the sizes of its inputs tell those of its outputs."""

    __slots__ = ("_bindable", "_inputs", "_options", "_outputs", "_session")

    def __init__(self, session: onnxruntime.InferenceSession, signature: Signature) -> None:
        self._session = session
        self._options = onnxruntime.RunOptions()  # to make one costs a us
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self._bindable = signature.sizes_follow

    def __call__(self, arrays: Sequence[Array], outputs: Sequence[Array]) -> Bound | None:
        """Bind buffers for inputs and outputs like these."""
        if not self._bindable:
            return None
        binding = self._session.io_binding()
        inputs = [np.empty_like(array, order="C") for array in arrays]
        results = [np.empty_like(output, order="C") for output in outputs]
        for name, own in zip(self._inputs, inputs, strict=True):
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(own))
        for name, own in zip(self._outputs, results, strict=True):
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(own))
        return Bound(tuple(inputs), self._call(binding._iobinding, results))

    def _call(self, binding: object, results: Sequence[Array]) -> Callable[[], dict[str, Array]]:
        inner: Any = self._session._sess  # run_with_iobinding without its look-ups for WebGPU: 1 us
        execute, options = inner.run_with_iobinding, self._options
        named = tuple(zip(self._outputs, results, strict=True))

        def one() -> dict[str, Array]:
            execute(binding, options)
            return {name: result.copy()}

        def many() -> dict[str, Array]:
            execute(binding, options)
            return {name: own.copy() for name, own in named}

        name, result = named[0]
        return one if len(named) == 1 else many
