"""Memory of a device, memory of the host that a device reads fast, and both side by side."""

import contextlib
import ctypes
import weakref
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from edgeport.runtimes.errors import EdgeportError
from edgeport.runtimes.inputs import Array

from .device import Context
from .stream import Stream

ALIGNMENT_BYTES: Final = 256
"""TensorRT asks it of every address, and so does ``cuMemAlloc`` of itself."""

_SMALLEST_BYTES: Final = 1 << 16
_PORTABLE: Final = 1  # CU_MEMHOSTALLOC_PORTABLE: pinned for every context


class DeviceMemory:
    """Memory of a device, given back with ``close`` or when nothing refers to it.

    Attributes:
        address: A ``CUdeviceptr``, a multiple of 256.
        size_bytes: As asked.

    Raises:
        EngineError: The device has not enough memory.
    """

    def __init__(self, context: Context, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        address = ctypes.c_uint64()
        with context.current():
            context.driver.call(
                "cuMemAlloc_v2",
                ctypes.byref(address),
                max(size_bytes, 1),
                doing=f"allocate {size_bytes / 2**20:.1f} MiB on {context}",
            )
        self.address = address.value
        self.close = weakref.finalize(self, _free, context, "cuMemFree_v2", self.address)
        self.close.atexit = False


class PinnedMemory:
    """Memory of the host that stays where it is, so that a device copies it at full speed.

    Attributes:
        address: Where it starts.
        bytes: (size_bytes,) uint8. Gone with ``close``: don't keep a view of it.

    Raises:
        EngineError: The host has not enough memory that may be pinned.
    """

    def __init__(self, context: Context, size_bytes: int) -> None:
        with context.current():
            self.address = context.driver.handle(
                "cuMemHostAlloc",
                max(size_bytes, 1),
                _PORTABLE,
                doing=f"pin {size_bytes / 2**20:.1f} MiB of the host's memory",
            )
        self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size_bytes).from_address(self.address))
        self.close = weakref.finalize(self, _free, context, "cuMemFreeHost", self.address)
        self.close.atexit = False


class Staging:
    """Tensors side by side in pinned memory, and at the same places on the device.

    One copy moves all of them. The memory grows as it must, never shrinks, and is used again.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._pinned: PinnedMemory | None = None
        self._device: DeviceMemory | None = None
        self._capacity_bytes = 0
        self._used_bytes = 0

    def reserve(self, sizes_bytes: Sequence[int]) -> list[int]:
        """Make room for tensors; what was there before is lost.

        Returns:
            The offset of each, a multiple of 256. An empty tensor has an address too.

        Raises:
            EngineError: There is not enough memory; less may be reserved later.
        """
        offsets, end = place(sizes_bytes)
        if end > self._capacity_bytes:
            capacity = max(end, self._capacity_bytes * 5 // 4, _SMALLEST_BYTES)
            self.close()  # first, so that old and new are not held together
            self._pinned = PinnedMemory(self._context, capacity)
            self._device = DeviceMemory(self._context, capacity)
            self._capacity_bytes = capacity
        self._used_bytes = end
        return offsets

    def host(self, offset: int, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """A view of the pinned memory; not valid after the next ``reserve``."""
        assert self._pinned is not None  # reserve comes first
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        view: Array = self._pinned.bytes[offset : offset + size].view(dtype).reshape(shape)
        return view

    @property
    def host_address(self) -> int:
        """Where the pinned memory starts."""
        return 0 if self._pinned is None else self._pinned.address

    @property
    def device_address(self) -> int:
        """Where the device's memory starts."""
        return 0 if self._device is None else self._device.address

    def upload(self, stream: Stream) -> None:
        """Copy from the host to the device, when the stream comes to it.

        Raises:
            EngineError: It failed, or what was queued before it.
        """
        if self._used_bytes:
            stream.copy_to_device(self.device_address, self.host_address, self._used_bytes)

    def download(self, stream: Stream) -> None:
        """Copy from the device to the host, when the stream comes to it.

        Raises:
            EngineError: It failed, or what was queued before it.
        """
        if self._used_bytes:
            stream.copy_to_host(self.host_address, self.device_address, self._used_bytes)

    def close(self) -> None:
        """Give the memory back."""
        self._capacity_bytes = 0
        for memory in (self._pinned, self._device):
            if memory is not None:
                memory.close()
        self._pinned = self._device = None


def place(sizes_bytes: Sequence[int]) -> tuple[list[int], int]:
    """Lay tensors side by side.

    Returns:
        The offset of each, and where the last one ends.

    Examples:
        >>> place([10, 0, 300])
        ([0, 256, 512], 1024)
    """
    offsets, end = [], 0
    for size in sizes_bytes:
        offsets.append(end)
        end += max(-(-size // ALIGNMENT_BYTES), 1) * ALIGNMENT_BYTES
    return offsets, end


def _free(context: Context, function: str, address: int) -> None:
    with contextlib.suppress(EdgeportError), context.current():  # a finalizer: nobody would hear
        context.driver.call(function, address, doing="give memory back")
