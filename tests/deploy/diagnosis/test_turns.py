"""Where Python turns by numbers."""

from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn

from edgeport import deploy
from edgeport.deploy.compilers.capture.recorded import with_values
from edgeport.deploy.compilers.upstream import quiet
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


class Expert(nn.Module):
    """Asks what it is, of which values decide nothing."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "relu":
            return x.relu()
        return x.tanh() if self.kind == "tanh" else x * 2


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(map(Expert, ("relu", "tanh", "twice")))

    def forward(self, x: Tensor) -> Tensor:
        chosen = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            mask = chosen == number
            if int(mask.sum()) == 0:
                continue
            out[mask] = expert(x[mask])
        return out


def test_experts_that_ask_what_they_are_may_be_without_rows() -> None:
    x = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    samples = [{"x": each} for each in (x, -x, x[:1], -x[:1])]
    source = deploy.source_of("m", Experts(), {"x": x}, {"x": {0: "rows"}}, samples=samples)
    with quiet():
        run: Any = with_values(source).program.module()
    for each in (x, -x, x[:1], -x[:1], x[1:], -x[1:], torch.cat([x, x * 3])):
        torch.testing.assert_close(run(each)[0], Experts()(each))
