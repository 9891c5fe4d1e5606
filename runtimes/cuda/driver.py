"""The CUDA driver's library, libcuda, through ctypes.

It comes with the driver, so it is there wherever a GPU can be used, and its interface does not
change. The runtime library, libcudart, comes in as many versions as there are wheels; TensorRT,
ONNX Runtime and torch each bring one. All of them work in a device's primary context, which is
the one used here too: memory, streams and events are theirs as well.
"""

import ctypes
import functools
import os
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Final

from .failures import failure, no_driver

LIBRARIES: Final = (  # where the loader is not always told of it
    "libcuda.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",  # Windows' Linux
    "/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1",  # Jetson, from JetPack 6 on
    "/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1",  # before
)

_HANDLE: Final = POINTER(c_void_p)
_ADDRESS: Final = c_uint64  # CUdeviceptr

PROTOTYPES: Final = {  # exported name -> types of its arguments; each returns a CUresult
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDeviceGetPCIBusId": (c_char_p, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (_HANDLE, c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxPushCurrent_v2": (c_void_p,),
    "cuCtxPopCurrent_v2": (_HANDLE,),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(_ADDRESS), c_size_t),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemHostAlloc": (_HANDLE, c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, _ADDRESS, c_size_t, c_void_p),
    "cuStreamCreate": (_HANDLE, c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuEventCreate": (_HANDLE, c_uint),
    "cuEventDestroy_v2": (c_void_p,),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventElapsedTime": (POINTER(c_float), c_void_p, c_void_p),
}


class Driver:
    """The library, loaded and started. Safe to share between threads.

    Args:
        path: Where the library is, or its name for the loader.

    Attributes:
        in_use: Whether a GPU was made ready to compute.

    Raises:
        OSError: It cannot be loaded.
        BackendMissingError: It is not a driver's library, or there is no GPU that it can use.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.in_use = False
        self._library = ctypes.CDLL(path)
        for name, arguments in PROTOTYPES.items():
            try:
                function = getattr(self._library, name)
            except AttributeError:
                raise no_driver(f"{path} has no {name}, which CUDA 11 brought") from None
            function.argtypes, function.restype = arguments, c_int
        self.call("cuInit", 0, doing="start the CUDA driver")

    def call(self, name: str, *arguments: object, doing: str) -> None:
        """Call a function of the library.

        Args:
            name: One of ``PROTOTYPES``.
            arguments: What it takes.
            doing: What it is for, as an infinitive: it stands in the error.

        Raises:
            BackendMissingError: There is no GPU, or the driver cannot use it.
            EngineError: It failed for another reason: memory, a kernel that crashed.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            raise failure(code, self._name_of(code), doing, in_use=self.in_use)

    def integer(self, name: str, *arguments: object, doing: str) -> int:
        """Call a function that writes an int through its first argument, and return that.

        Raises:
            BackendMissingError: There is no GPU, or the driver cannot use it.
            EngineError: It failed for another reason.
        """
        found = c_int()
        self.call(name, ctypes.byref(found), *arguments, doing=doing)
        return found.value

    def handle(self, name: str, *arguments: object, doing: str) -> int:
        """Call a function that writes a handle through its first argument, and return that.

        Raises:
            BackendMissingError: There is no GPU, or the driver cannot use it.
            EngineError: It failed for another reason.
        """
        found = c_void_p()
        self.call(name, ctypes.byref(found), *arguments, doing=doing)
        return found.value or 0

    @property
    def cuda_version(self) -> tuple[int, int]:
        """The newest CUDA that this driver can run, such as (12, 4)."""
        packed = self.integer("cuDriverGetVersion", doing="ask for the driver's version")
        return packed // 1000, packed % 1000 // 10

    def _name_of(self, code: int) -> str | None:
        found = c_char_p()
        self._library.cuGetErrorName(code, ctypes.byref(found))
        return None if found.value is None else found.value.decode("ascii", "replace")


def driver() -> Driver:
    """The driver of this machine, loaded when it is first asked for.

    Raises:
        BackendMissingError: There is none, or no GPU that it can use.
        EngineError: This process was forked from one that used CUDA.
    """
    return _started(os.getpid())


@functools.cache  # a failure is not remembered; a forked process has to find out for itself
def _started(process: int) -> Driver:
    reasons = []
    for path in LIBRARIES:
        try:
            return Driver(path)
        except OSError as e:
            reasons.append(str(e))
    raise no_driver(reasons[0])
