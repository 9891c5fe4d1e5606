"""``copy.deepcopy`` of tensors in forward, as metrics that are made there copy their states."""

import copy

import torch
from torch import Tensor, nn

from edgeport.deploy import source_of
from edgeport.deploy.compilers.capture import program


class Handed(nn.Module):
    """What it was before it is written to, and a state of its own."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        before, again, two = copy.deepcopy((x, x, torch.tensor(2.0)))
        y = x.add_(1) * 2
        assert before is again
        return y - before, two * x


def test_a_copy_is_what_was_there_before() -> None:
    source = source_of("net", Handed(), {"x": torch.randn(2, 6)}, {"x": {0: "batch"}})
    found = program.capture(source).module()((x := torch.randn(5, 6)).clone())
    for each, expected in zip(found, Handed()(x), strict=True):
        assert torch.equal(each, expected)
