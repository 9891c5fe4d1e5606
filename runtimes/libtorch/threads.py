"""How many threads torch computes with, which is a setting of the whole process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def thread_count(count: int) -> Iterator[None]:
    """Compute with so many in the block; one gives the same bits on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
