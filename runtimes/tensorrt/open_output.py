"""Memory for an output whose size depends on the values, such as what NonZero gives."""

from typing import Any

import numpy as np

from edgeport.runtimes.cuda.device import Context
from edgeport.runtimes.cuda.memory import DeviceMemory
from edgeport.runtimes.cuda.stream import Stream
from edgeport.runtimes.errors import EdgeportError
from edgeport.runtimes.inputs import Array

from .api import Dims
from .failures import RefusedError


class OpenOutput:
    """One such output: TensorRT asks for memory while it runs, and tells the shape.

    Args:
        module: TensorRT's.
        context: The GPU it runs on.
        name: Of the output.
        dtype: Of the output.

    Attributes:
        allocator: What TensorRT is given: an ``IOutputAllocator``.
        error: Why it was refused memory; an exception cannot pass through TensorRT.
    """

    def __init__(self, module: Any, context: Context, name: str, dtype: str) -> None:
        self._context = context
        self._name = name
        self._dtype = np.dtype(dtype)
        self._memory: DeviceMemory | None = None
        self._shape: tuple[int, ...] | None = None
        self.error: EdgeportError | None = None
        self.allocator = _allocator(module, self)

    def begin(self) -> None:
        """Forget the last run."""
        self._shape = self.error = None

    def grow(self, size_bytes: int) -> int:
        """The address of that much memory; 0 if there is not so much."""
        if self._memory is None or self._memory.size_bytes < size_bytes:
            self.close()
            try:
                self._memory = DeviceMemory(self._context, size_bytes)
            except EdgeportError as e:
                self.error = e
                return 0
        return self._memory.address

    def tell(self, shape: Dims) -> None:
        """TensorRT knows the shape."""
        self._shape = tuple(shape)

    def fetch(self, stream: Stream) -> Array:
        """Queue the copy of the output; it is there when the stream is done.

        Raises:
            RefusedError: TensorRT never told the shape.
            EngineError: The copy failed.
        """
        if self._shape is None:
            raise RefusedError(f"tell the shape of output {self._name!r}")
        array = np.empty(self._shape, self._dtype)
        if array.size and self._memory is not None:
            stream.copy_to_host(array.ctypes.data, self._memory.address, array.nbytes)
        return array

    def close(self) -> None:
        """Give the memory back."""
        if self._memory is not None:
            self._memory.close()
        self._memory = None


def _allocator(module: Any, output: OpenOutput) -> Any:
    class Allocator(module.IOutputAllocator):  # type: ignore[misc]  # of a module known by name
        def __init__(self) -> None:
            module.IOutputAllocator.__init__(self)  # pybind11 wants it by name

        def reallocate_output(
            self, tensor_name: str, memory: int, size: int, alignment: int
        ) -> int:
            return output.grow(size)

        def reallocate_output_async(
            self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            return output.grow(size)

        def notify_shape(self, tensor_name: str, shape: Dims) -> None:
            output.tell(shape)

    return Allocator()
