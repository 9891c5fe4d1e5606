"""The GPUs of this machine, and the context in which one of them is used."""

import contextlib
import ctypes
import weakref
from dataclasses import dataclass
from typing import Final

from edgeport.runtimes.errors import EdgeportError

from .driver import Driver, driver

_MAJOR: Final = 75  # CUdevice_attribute, from cuda.h
_MINOR: Final = 76


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a GPU says of itself.

    Attributes:
        index: The N of ``cuda:N``.
        name: Such as ``"NVIDIA GeForce RTX 4090"``.
        compute_capability: Major and minor, such as (8, 9).
        pci_bus_id: Such as ``"0000:65:00.0"``: NVML and lspci know it by that.
    """

    index: int
    name: str
    compute_capability: tuple[int, int]
    pci_bus_id: str

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return f"cuda:{self.index} ({self.name}, compute capability {major}.{minor})"


def devices() -> tuple[DeviceInfo, ...]:
    """Every GPU that this process may use; CUDA_VISIBLE_DEVICES hides and renumbers them.

    Raises:
        BackendMissingError: There is no driver, or no GPU that it can use.
    """
    count = driver().integer("cuDeviceGetCount", doing="count the GPUs")
    return tuple(map(device, range(count)))


def device(index: int) -> DeviceInfo:
    """One GPU.

    Raises:
        BackendMissingError: There is no driver, or no GPU of that number.
    """
    library, doing = driver(), f"use cuda:{index}"
    handle = library.integer("cuDeviceGet", index, doing=doing)
    name, address = ctypes.create_string_buffer(256), ctypes.create_string_buffer(64)
    library.call("cuDeviceGetName", name, len(name), handle, doing=doing)
    library.call("cuDeviceGetPCIBusId", address, len(address), handle, doing=doing)

    def attribute(number: int) -> int:
        return library.integer("cuDeviceGetAttribute", number, handle, doing=doing)

    return DeviceInfo(
        index=index,
        name=name.value.decode("utf-8", "replace"),
        compute_capability=(attribute(_MAJOR), attribute(_MINOR)),
        pci_bus_id=address.value.decode("ascii", "replace"),
    )


class Context:
    """A device's primary context: the one that every library of this process shares.

    Safe to share between threads. It is given back when nothing refers to it any more.

    Raises:
        BackendMissingError: There is no driver, or no GPU of that number.
        EngineError: The context cannot be made, for want of memory for example.
    """

    def __init__(self, index: int) -> None:
        self.device = device(index)
        self.driver = driver()
        handle = self.driver.integer("cuDeviceGet", index, doing=f"use cuda:{index}")
        self._handle = self.driver.handle(
            "cuDevicePrimaryCtxRetain", handle, doing=f"use cuda:{index}"
        )
        self.driver.in_use = True
        giving_back = weakref.finalize(self, _release, self.driver, handle)
        giving_back.atexit = False  # by then the driver may be gone, and gives everything back

    def current(self) -> "_Current":
        """Work on this device in this thread while a ``with`` block runs.

        Raises:
            EngineError: The context is lost.
        """
        return _Current(self)

    def push(self) -> None:
        """Work on this device in this thread until ``pop``.

        Raises:
            EngineError: The context is lost.
        """
        self.driver.call("cuCtxPushCurrent_v2", self._handle, doing="use the GPU")

    def pop(self) -> None:
        """Work on what was current before. Never fails: it comes behind what may have failed."""
        with contextlib.suppress(EdgeportError):
            self.driver.handle("cuCtxPopCurrent_v2", doing="leave the GPU")

    def free_bytes(self) -> int:
        """How much of the device's memory nobody uses.

        Raises:
            EngineError: The context is lost.
        """
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        with self.current():
            self.driver.call(
                "cuMemGetInfo_v2",
                ctypes.byref(free),
                ctypes.byref(total),
                doing=f"ask {self} for its memory",
            )
        return free.value

    def __str__(self) -> str:
        return f"cuda:{self.device.index}"


class _Current:
    """A class, because a generator would cost three times as much in every call."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> None:
        self._context.push()

    def __exit__(self, *_: object) -> None:
        self._context.pop()


def _release(library: Driver, handle: int) -> None:
    with contextlib.suppress(EdgeportError):  # a finalizer: nobody would hear of it
        library.call("cuDevicePrimaryCtxRelease_v2", handle, doing="leave the GPU")
