"""Python's garbage collector."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Keep it from looking through what there is, until the block is left."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def end_quickly() -> None:
    """Keep Python from looking through all of torch before it ends, for a second: for ``atexit``.

    Not beside Triton 3.9 (torch 2.15 with CUDA), whose bindings print a hundred lines about leaks
    if objects of theirs are left.
    """
    if "triton._C.libtriton" in sys.modules:
        gc.unfreeze()
    else:
        gc.freeze()
