"""How many threads torch computes with, which is a setting of the whole process."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from .process_settings import ProcessSetting

_SOFT: Final = 1
"""``omp_pause_soft``, OpenMP 5.0, section 3.2.44: threads end, and are made anew when needed."""


THREADS: Final = ProcessSetting(torch.get_num_threads, torch.set_num_threads)
"""Of sessions; blocks of code have ``thread_count``."""


@contextlib.contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Compute with so many in the block; one gives the same bits on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def outlast_forks() -> None:
    """End the threads of OpenMP before every fork of this process, so that none is waited for.

    GNU's OpenMP has no threads in a forked process and does not know it: the first operator that
    wants two waits for ever. https://github.com/pytorch/pytorch/issues/17199
    """
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        pause = ctypes.CDLL(str(library)).omp_pause_resource_all  # of the library that it loaded
    except (OSError, AttributeError):
        return  # another threading library, or another system
    os.register_at_fork(before=functools.partial(pause, _SOFT))
