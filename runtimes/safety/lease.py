"""Files that nobody writes to meanwhile: Linux's read leases.

While a process holds one, whoever opens the file to write, or cuts it off, has to wait until it is
given up, but for no longer than ``/proc/sys/fs/lease-break-time``, 45 s. There is none for a file
that is open for writing, that belongs to another user, or where a file system has no leases
(fcntl(2), "Leases").
"""

import contextlib
import signal
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def leased(file: IO[bytes]) -> Iterator[bool]:
    """Hold a lease during the block; tell whether there is one.

    Raises:
        BlockingIOError: Somebody wanted to write to it meanwhile, and may have.
    """
    try:
        import fcntl

        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)  # who waits is told; SIGIO would end us
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except (ImportError, AttributeError, OSError):
        yield False
        return
    try:
        yield True
        check_lease(file)
    finally:
        with contextlib.suppress(OSError):
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def check_lease(file: IO[bytes]) -> None:
    """See that nobody waits for the end of a lease, who would not wait for long.

    Raises:
        BlockingIOError: Somebody does.
    """
    import fcntl

    if fcntl.fcntl(file, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
        raise BlockingIOError("somebody writes to it")
