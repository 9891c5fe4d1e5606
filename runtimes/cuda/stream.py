"""What a device has been told to do, in order, and when it did it."""

import contextlib
import ctypes
import weakref
from typing import Final

from edgeport.runtimes.errors import EdgeportError

from .device import Context

_NON_BLOCKING: Final = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream
_TIMED: Final = 0  # CU_EVENT_DEFAULT


class Stream:
    """A queue of work of one device. One thread at a time may use it, in any context.

    Attributes:
        handle: A ``CUstream``, which is a ``cudaStream_t`` too.

    Raises:
        EngineError: It cannot be made.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        with context.current():
            self.handle = context.driver.handle(
                "cuStreamCreate", _NON_BLOCKING, doing=f"make a stream on {context}"
            )
        self.close = weakref.finalize(self, _destroy, context, "cuStreamDestroy_v2", self.handle)
        self.close.atexit = False

    def copy_to_device(self, device: int, host: int, size_bytes: int) -> None:
        """Queue a copy. Asynchronous if the host's memory is pinned.

        Raises:
            EngineError: It failed, or what was queued before it.
        """
        self.context.driver.call(
            "cuMemcpyHtoDAsync_v2", device, host, size_bytes, self.handle, doing="copy to the GPU"
        )

    def copy_to_host(self, host: int, device: int, size_bytes: int) -> None:
        """Queue a copy. Asynchronous if the host's memory is pinned.

        Raises:
            EngineError: It failed, or what was queued before it.
        """
        self.context.driver.call(
            "cuMemcpyDtoHAsync_v2", host, device, size_bytes, self.handle, doing="copy from the GPU"
        )

    def wait(self) -> None:
        """Wait until everything queued is done. Other threads run meanwhile.

        Raises:
            EngineError: Something queued failed.
        """
        self.context.driver.call(
            "cuStreamSynchronize", self.handle, doing=f"finish the work on {self.context}"
        )


class Event:
    """A moment in a stream, measured by the device itself.

    Raises:
        EngineError: It cannot be made.

    Examples:
        >>> start, end = Event(context), Event(context)             # doctest: +SKIP
        >>> start.record(stream); work(); end.record(stream)        # doctest: +SKIP
        >>> stream.wait(); end.milliseconds_since(start)            # doctest: +SKIP
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        with context.current():
            self.handle = context.driver.handle(
                "cuEventCreate", _TIMED, doing=f"make an event on {context}"
            )
        self.close = weakref.finalize(self, _destroy, context, "cuEventDestroy_v2", self.handle)
        self.close.atexit = False

    def record(self, stream: Stream) -> None:
        """Let it happen when the stream has done what was queued so far.

        Raises:
            EngineError: It failed, or what was queued before it.
        """
        self._context.driver.call(
            "cuEventRecord", self.handle, stream.handle, doing="record an event"
        )

    def milliseconds_since(self, start: "Event") -> float:
        """Time from one event to another that both happened; the resolution is 0.5 us.

        Raises:
            EngineError: One of them was never recorded.
        """
        found = ctypes.c_float()
        self._context.driver.call(
            "cuEventElapsedTime",
            ctypes.byref(found),
            start.handle,
            self.handle,
            doing="read the time between two events",
        )
        return found.value


def _destroy(context: Context, function: str, handle: int) -> None:
    with contextlib.suppress(EdgeportError), context.current():  # a finalizer: nobody would hear
        context.driver.call(function, handle, doing="give it back")
