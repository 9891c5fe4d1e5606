"""A fresh interpreter with a socket to it: where a fork would share too much, as an open GPU."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Final

import edgeport

_QUICK_END: Final = (
    "import atexit; from edgeport.runtimes.collector import end_quickly; "
    "atexit.register(end_quickly); "
)


def started(
    life: str,
    *arguments: object,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[subprocess.Popen[bytes], Connection[Any, Any]]:
    """Start one, which takes no library from the folder that we stand in (``-P``).

    Args:
        life: What it does, in Python, with places for the descriptor of its socket and for
            ``arguments``.
        arguments: Numbers, or ``None``.
        stdout: As ``subprocess.Popen`` takes it.
        stderr: The same.
        env: More variables of its environment.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _QUICK_END + life.format(theirs.fileno(), *arguments)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**environment(), **(env or {})},
            process_group=0,  # Ctrl-C is the parent's affair
        )
    return process, Connection(ours.detach())


def environment() -> dict[str, str]:
    """Ours, and the place that this edgeport was imported from, which may be a checkout."""
    home = str(Path(edgeport.__file__).parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": home if not known else f"{home}{os.pathsep}{known}"}


def ending(code: int) -> str:
    """The exit code of a process in words, or the name of the signal that ended it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time one
        return f"signal {-code}"
