"""Signals as bytes of a socket, so that one place waits for them and for everything else."""

import contextlib
import signal
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def heard() -> Iterator[socket.socket]:
    """Hear those that end a server, and of children that end; each is a byte with its number."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    handled = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: None) for number in handled}
    old = signal.set_wakeup_fd(writer.fileno())
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(old)
        for number, handler in before.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()
