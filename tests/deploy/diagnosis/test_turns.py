"""Where Python turns by numbers."""

from types import CodeType

import torch
from torch import Tensor

from edgeport.deploy.diagnosis.decisions import Places
from edgeport.deploy.diagnosis.turns import Turns


def between(x: Tensor) -> bool:
    count = int(x.sum())
    return count * 2 > 30 and count < 60


def seen(x: Tensor) -> set[tuple[CodeType, int]]:
    turns = Turns()
    with turns, Places(turns):
        between(x)
    return turns.seen()


def test_a_first_call_is_seen_as_others_are() -> None:
    """Python 3.13 tells no opcodes of it otherwise, and 3.12 none of the first in a process."""
    first = seen(torch.ones(20))
    assert first
    assert first == seen(torch.ones(20))
    assert seen(torch.ones(5)) < first
