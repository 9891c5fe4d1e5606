"""What takes long to read or to write is so in threads, that others are answered in between."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from edgeport.runtimes.errors import DeadlineError, OverloadedError

LARGE_BYTES: Final = 2**18
"""What is longer takes long to read, unless it is one binary tensor, or to write."""

MOST_WAITING_BYTES: Final = 2**28
"""Of requests that may wait for a thread, together. One may be longer."""

_THREADS: Final = 2
"""Images are decoded beside each other, and not behind one long JSON, which has the interpreter to
itself and profits from no other thread."""

T = TypeVar("T")


class Reading:
    """Threads that read and write.

    Args:
        longest_s: How long a request may wait for one of them.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._waiting_bytes = 0
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="edgeport-read")

    async def read(self, size_bytes: int, what: Callable[[], T]) -> T:
        """Return what ``what`` returns or raise what it raises; cancelled, it is not begun.

        Raises:
            OverloadedError: Too much waits already.
            DeadlineError: It waited too long.
        """
        if self._waiting_bytes and self._waiting_bytes + size_bytes > MOST_WAITING_BYTES:
            raise OverloadedError(
                f"{self._waiting_bytes} bytes of other requests wait to be read",
                remedy="try again later, or send binary tensors",
            )
        came_s = time.monotonic()

        def run() -> T:
            waited_s = time.monotonic() - came_s
            if waited_s > self._longest_s:
                raise DeadlineError(
                    f"the request waited {waited_s:.3f} s to be read, longer than it may",
                    remedy="send less at a time, or allow more: --deadline",
                )
            return what()

        self._waiting_bytes += size_bytes
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        finally:
            self._waiting_bytes -= size_bytes

    async def write(self, what: Callable[[], T]) -> T:
        """The same for an answer: it is there already, so that nothing is gained by refusing it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, what)

    def close(self) -> None:
        """End the threads; what waits is not read."""
        self._threads.shutdown(wait=False, cancel_futures=True)
