"""What large requests have left behind is given back to the system."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from edgeport.runtimes.heap import give_back

LOOK_S: Final = 5.0
"""How often: giving back takes milliseconds, and the next large request has to ask again."""

MOST_MORE_PAGES: Final = 2**14
"""64 MiB: a process that has grown by less keeps it for the next requests."""


class Thrift:
    """Looks now and then whether this process has grown. Lives in the event loop."""

    def __init__(self) -> None:
        self._usual = _pages()
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        if _pages() > self._usual + MOST_MORE_PAGES:
            give_back()
            self._usual = _pages()  # what is left is in use, and no reason to try again
        self._usual = min(self._usual, _pages())
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)


def _pages() -> int:
    """How many pages of memory this process has; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1])
    return 0
