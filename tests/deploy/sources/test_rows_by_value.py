"""Lengths that values decide, where no sample tells."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edgeport.deploy import make_call, make_source, parse_inputs
from edgeport.deploy.sources.source import Source


class Takes(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def source(function: Callable[[Tensor], Tensor]) -> Source:
    declared = parse_inputs(["x=float32[n,4]"])
    module = Takes(function).eval()
    call = make_call(module, (), declared.arguments)
    return make_source("m", module, call, declared.specs, declared.ranges)


UPPER = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]]).nonzero()[:, 1]


def _all(x: Tensor) -> Tensor:
    return x[:, 0] > -1e9


def _by_rank(x: Tensor) -> Tensor:
    return x[x[:, 0].argsort()][_all(x)]


def _routed(x: Tensor) -> Tensor:
    chosen = x[:, 0] > 0
    out = torch.zeros_like(x)
    out[chosen] = x[chosen].exp()
    return out.index_add(0, chosen.nonzero().squeeze(1), x[chosen])


def _filled_in_place(x: Tensor) -> Tensor:
    keep = torch.zeros(len(x), dtype=torch.bool)
    for row in range(len(x)):
        keep[row] = x[row, 0] > -1e9
    return x[keep]


def _wants_all(x: Tensor) -> Tensor:
    return x[_all(x)] + x


def _until_none_is_left(x: Tensor) -> Tensor:
    """Which, with one row more each time, would never end."""
    kept = []
    while len(x):
        kept.append(x[0])
        x = x[(x[:, 0] - x[0, 0]).abs() > 0.5]
    return torch.stack(kept)


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x[_all(x)], ("output_0", 4)),
        (_by_rank, ("output_0", 4)),
        (lambda x: _all(x).nonzero(), ("output_0", 1)),
        (lambda x: x.masked_select(_all(x)[:, None]), ("output_0",)),
        (lambda x: x[:, 0].unique(), ("output_0",)),
        (lambda x: x[~_all(x)], ("output_0", 4)),  # none
        (_routed, ("n", 4)),
        (_filled_in_place, ("output_0", 4)),
        (_wants_all, ("n", 4)),
        (_until_none_is_left, ("output_0", 4)),
        (lambda x: x.exp(), ("n", 4)),
        (lambda x: (x[:, 0] * 1e6 + 1).unique(return_inverse=True)[0], ("output_0",)),
        (lambda x: x[:, 0].unique_consecutive(), ("output_0",)),
        (lambda x: x[:, 0].sigmoid().long().bincount(), ("output_0",)),
        (lambda x: x[:, 0].sigmoid().long().bincount(minlength=5)[:5], (5,)),
        (lambda x: x.repeat_interleave((x[:, 0] > -1e9).long() + 1, 0), ("output_0", 4)),
        (lambda x: x[:, UPPER], ("n", 6)),
        (lambda x: x[:, torch.ones_like(x[:1]).bool()[0]], ("n", 4)),
        (lambda x: x.repeat_interleave(torch.tensor([1, 2, 1, 3]), 1), ("n", 7)),
        (lambda x: x[:, torch.tensor([1, 0, 1, 1]).nonzero().squeeze(1)], ("n", 3)),
    ],
)
def test_an_axis_that_values_decide_follows_no_dimension(
    function: Callable[[Tensor], Tensor], shape: tuple[int | str, ...]
) -> None:
    assert source(function).signature.outputs[0].shape == shape


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: x[_all(x)], "each has n"),
        (lambda x: x[~_all(x)], "each has 0"),
        (lambda x: x[x[:, 0] > 0], None),
        (lambda x: x.exp(), None),
    ],
)
def test_a_note_says_that_no_sample_shows_it(
    function: Callable[[Tensor], Tensor], told: str | None
) -> None:
    notes = [note for note in source(function).notes if note.startswith("output: ")]
    assert notes == (
        []
        if told is None
        else [
            "output: values decide how long its axis 0 is, and no sample shows it: "
            f"{told}; give samples that differ there"
        ]
    )
