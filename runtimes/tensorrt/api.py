"""The parts of TensorRT's Python API that running an engine uses, as types.

The bindings have no types of their own. A checker holds our calls against these, and a test holds
these against the published bindings of TensorRT 10, TensorRT 11 and TensorRT-RTX: names, and the
names of the parameters. Enumerations are compared by name, so their classes are not needed.
"""

# ruff: noqa: D102  # the members are TensorRT's, and so is their documentation

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Member(Protocol):
    """One of an enumeration: DataType, TensorIOMode, TensorLocation, TensorFormat."""

    @property
    def name(self) -> str: ...


class Dims(Protocol):
    """A shape; -1 is what is not known yet. No rank is known if its length is an error."""

    def __getitem__(self, index: int, /) -> int: ...

    def __iter__(self) -> Iterator[int]: ...

    def __len__(self) -> int: ...


class IExecutionContext(Protocol):
    """What one thread runs an engine with. A new one has the optimisation profile 0."""

    def set_input_shape(self, name: str, shape: tuple[int, ...], /) -> bool: ...

    def set_tensor_address(self, name: str, memory: int, /) -> bool: ...

    def set_output_allocator(self, name: str, output_allocator: Any, /) -> bool: ...

    def infer_shapes(self) -> list[str]: ...

    def get_tensor_shape(self, name: str, /) -> Dims: ...

    def execute_async_v3(self, stream_handle: int, /) -> bool: ...


class IRuntimeConfig(Protocol):
    """How contexts of an engine run; from TensorRT 10.11 on."""

    @property
    def dynamic_shapes_kernel_specialization_strategy(self) -> Member: ...

    @dynamic_shapes_kernel_specialization_strategy.setter
    def dynamic_shapes_kernel_specialization_strategy(self, strategy: Member, /) -> None: ...


class ICudaEngine(Protocol):
    """An engine on the GPU."""

    @property
    def name(self) -> str: ...

    @property
    def num_io_tensors(self) -> int: ...

    def get_tensor_name(self, index: int, /) -> str: ...

    def get_tensor_mode(self, name: str, /) -> Member: ...

    def get_tensor_dtype(self, name: str, /) -> Member: ...

    def get_tensor_shape(self, name: str, /) -> Dims: ...

    def get_tensor_format(self, name: str, /) -> Member: ...

    def get_tensor_location(self, name: str, /) -> Member: ...

    def is_shape_inference_io(self, name: str, /) -> bool: ...

    def get_tensor_profile_shape(self, name: str, profile_index: int, /) -> Sequence[Dims]: ...

    # the two names are the wrong way round in the bindings
    def get_tensor_profile_values(
        self, name: int, profile_index: str, /
    ) -> Sequence[Sequence[int]]: ...

    def create_runtime_config(self) -> IRuntimeConfig: ...

    def create_execution_context(
        self, runtime_config: IRuntimeConfig = ..., /
    ) -> IExecutionContext | None: ...


class Runtime(Protocol):
    """What opens engines."""

    @property
    def engine_host_code_allowed(self) -> bool: ...

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, allowed: bool, /) -> None: ...

    def deserialize_cuda_engine(self, serialized_engine: bytes, /) -> ICudaEngine | None: ...


class IOutputAllocator(Protocol):
    """Gives memory for outputs whose size depends on the values; TensorRT calls it."""

    def reallocate_output(
        self, tensor_name: str, memory: int, size: int, alignment: int, /
    ) -> int: ...

    def reallocate_output_async(
        self, tensor_name: str, memory: int, size: int, alignment: int, stream: int, /
    ) -> int: ...

    def notify_shape(self, tensor_name: str, shape: Dims, /) -> None: ...
