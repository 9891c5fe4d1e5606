"""Memory that was freed, and which the C library keeps for itself."""

import contextlib
import ctypes


def give_back() -> None:
    """Return free pages to the system (malloc_trim(3))."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
