"""The inputs of one lane: where TensorRT reads them, and how they get there."""

from collections.abc import Sequence

import numpy as np

from edgeport.runtimes.cuda.device import Context
from edgeport.runtimes.cuda.memory import Staging
from edgeport.runtimes.cuda.stream import Stream
from edgeport.runtimes.inputs import Array

from .api import IExecutionContext
from .failures import RefusedError
from .tensors import Tensor


class BoundInputs:
    """Memory for the inputs, and TensorRT told of it.

    Args:
        tensors: In the order of the arrays.
        context: The GPU that runs the engine.

    Attributes:
        size_others: Whether the values of an input decide about the shapes of outputs.
    """

    def __init__(self, tensors: Sequence[Tensor], context: Context) -> None:
        self._tensors = tensors
        self._staging = Staging(context)
        self._views: list[Array] = []
        self.size_others = any(tensor.on_host for tensor in tensors)

    def bind(self, execution: IExecutionContext, arrays: Sequence[Array]) -> None:
        """Make room for inputs of these shapes, and tell TensorRT shapes and addresses.

        Raises:
            RefusedError: TensorRT does not take them.
            EngineError: There is not enough memory.
        """
        pairs = list(zip(self._tensors, arrays, strict=True))
        offsets = iter(
            self._staging.reserve([array.nbytes for each, array in pairs if not each.on_host])
        )
        self._views = []
        for tensor, array in pairs:
            if tensor.on_host:
                view = np.empty_like(array, order="C")
                address = view.ctypes.data
            else:
                offset = next(offsets)
                view = self._staging.host(offset, array.shape, array.dtype)
                address = self._staging.device_address + offset
            self._views.append(view)
            if not execution.set_input_shape(tensor.name, array.shape):
                raise RefusedError(f"take input {tensor.name!r} of shape {list(array.shape)}")
            if not execution.set_tensor_address(tensor.name, address):
                raise RefusedError(f"take the address of input {tensor.name!r}")

    def fill(self, arrays: Sequence[Array]) -> None:
        """Copy values into memory that TensorRT, or the copy to the GPU, reads."""
        for view, array in zip(self._views, arrays, strict=True):
            view[...] = array

    def upload(self, stream: Stream) -> None:
        """Queue the copy to the GPU.

        Raises:
            EngineError: It failed, or what was queued before it.
        """
        self._staging.upload(stream)

    def close(self) -> None:
        """Give the memory back."""
        self._views = []
        self._staging.close()
