"""The outputs of one lane: where TensorRT writes them, and how they get to the caller."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeport.runtimes.cuda.device import Context
from edgeport.runtimes.cuda.memory import Staging
from edgeport.runtimes.cuda.stream import Stream
from edgeport.runtimes.errors import EdgeportError, EngineError
from edgeport.runtimes.inputs import Array

from .api import IExecutionContext
from .failures import RefusedError
from .open_output import OpenOutput
from .tensors import Tensor

_Shape = tuple[int, ...]


class BoundOutputs:
    """Memory for the outputs, and TensorRT told of it.

    Shapes are read from the context, which infers them from those of the inputs. What it cannot
    infer depends on the values, and gets memory while the engine runs.

    Args:
        module: TensorRT's.
        tensors: In the order of the signature.
        context: The GPU that runs the engine.
    """

    def __init__(self, module: Any, tensors: Sequence[Tensor], context: Context) -> None:
        self._module, self._context = module, context
        self._tensors = tensors
        self._staging = Staging(context)
        self._views: dict[str, Array] = {}
        self._open: dict[str, OpenOutput] = {}
        self._fetched: dict[str, Array] = {}

    def bind(self, execution: IExecutionContext) -> None:
        """Make room for what these inputs give, and tell TensorRT the addresses.

        Raises:
            RefusedError: TensorRT does not know the shapes, or does not take the memory.
            EngineError: There is not enough memory.
        """
        _infer(execution)
        shapes = {each.name: _shape(execution, each.name) for each in self._tensors}
        known = [each for each in self._tensors if -1 not in shapes[each.name]]
        staged = [each for each in known if not each.on_host]
        offsets = self._staging.reserve([_bytes(each, shapes[each.name]) for each in staged])
        places = dict(zip([each.name for each in staged], offsets, strict=True))
        self._views = {}
        for tensor in self._tensors:
            if tensor.name in places:
                self._stage(execution, tensor, shapes[tensor.name], places[tensor.name])
            elif -1 not in shapes[tensor.name]:
                view = self._views[tensor.name] = np.empty(shapes[tensor.name], tensor.dtype)
                _address(execution, tensor.name, view.ctypes.data)
            else:
                self._leave_open(execution, tensor)

    def begin(self) -> None:
        """Forget what the last run told."""
        for each in self._open.values():
            each.begin()

    def download(self, stream: Stream) -> None:
        """Queue the copies from the GPU.

        Raises:
            RefusedError: TensorRT did not tell a shape.
            EngineError: A copy failed, or what was queued before it.
        """
        self._staging.download(stream)
        self._fetched = {name: each.fetch(stream) for name, each in self._open.items()}

    def collect(self) -> dict[str, Array]:
        """The outputs, when the stream is done; the caller owns them."""
        found = self._fetched | {name: view.copy() for name, view in self._views.items()}
        return {each.name: found[each.name] for each in self._tensors}

    def memory_error(self) -> EdgeportError | None:
        """That there was no memory for an output, if that is why a run was refused."""
        return next((each.error for each in self._open.values() if each.error), None)

    def close(self) -> None:
        """Give the memory back."""
        self._views = {}
        self._staging.close()
        for each in self._open.values():
            each.close()

    def _stage(
        self, execution: IExecutionContext, tensor: Tensor, shape: _Shape, offset: int
    ) -> None:
        self._views[tensor.name] = self._staging.host(offset, shape, np.dtype(tensor.dtype))
        _address(execution, tensor.name, self._staging.device_address + offset)

    def _leave_open(self, execution: IExecutionContext, tensor: Tensor) -> None:
        if tensor.on_host:
            raise EngineError(
                f"output {tensor.name!r} is written on the host, and its shape is not known",
                remedy="export the model so that its shape follows from its inputs",
            )
        if tensor.name not in self._open:
            made = OpenOutput(self._module, self._context, tensor.name, tensor.dtype)
            self._open[tensor.name] = made
            if not execution.set_output_allocator(tensor.name, made.allocator):
                raise RefusedError(f"take memory for output {tensor.name!r}")


def _infer(execution: IExecutionContext) -> None:
    try:
        missing = execution.infer_shapes()
    except Exception as e:  # pybind11's RuntimeError, for a code below 0
        raise RefusedError("infer the shapes of its outputs") from e
    if missing:
        raise RefusedError(f"infer the shapes of its outputs without {', '.join(missing)}")


def _shape(execution: IExecutionContext, name: str) -> _Shape:
    try:
        return tuple(execution.get_tensor_shape(name))
    except ValueError as e:  # a rank of -1
        raise RefusedError(f"infer the rank of output {name!r}") from e


def _bytes(tensor: Tensor, shape: _Shape) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize


def _address(execution: IExecutionContext, name: str, address: int) -> None:
    if not execution.set_tensor_address(name, address):
        raise RefusedError(f"take the address of output {name!r}")
