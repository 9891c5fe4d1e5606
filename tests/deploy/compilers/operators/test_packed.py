"""Packed sequences are padded ones to a compiler, and answer as torch's own."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from edgeport import deploy

AXES = {"x": {0: "rows", 1: "time"}, "lengths": {0: "rows"}}
BACKENDS = {"onnx": "ort-cpu", "pt2": "torch"}


class Reader(nn.Module):
    """Also gives back the last states, and rows that are as long as the longest."""

    def __init__(self, layer: nn.RNNBase, *, sort: bool = False, whole: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.sort = sort
        self.whole = whole

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        held = lengths.clamp(1, x.shape[1])
        if self.sort:
            held = held.sort(descending=True)[0]
        packed = pack_padded_sequence(x, held, batch_first=True, enforce_sorted=self.sort)
        found, last = self.layer(packed)
        total = x.shape[1] + 2 if self.whole else None
        y, ends = pad_packed_sequence(found, True, -1.0, total)
        states = last if isinstance(last, tuple) else (last,)
        return y, ends, *states


class Looked(nn.Module):
    """What is packed is looked at: torch has no padding there."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.layer = nn.Linear(3, 3), nn.GRU(3, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        held = lengths.clamp(1, x.shape[1])
        packed = pack_padded_sequence(x, held, batch_first=True, enforce_sorted=False)
        data = self.before(packed.data) - packed.data * 2
        found, last = self.layer(PackedSequence(data, *packed[1:]))
        most = found.data.max(0)[0] / packed.batch_sizes.sum()
        ends = torch.cumsum(packed.batch_sizes * 2, 0)
        return most, found.data.mean(0), last * packed.batch_sizes[-1], ends[-1] - x.shape[0]


LAYERS: dict[str, Any] = {
    "data": lambda: Looked(),
    "lstm": lambda: Reader(nn.LSTM(3, 4, 2, bidirectional=True), whole=True),
    "gru": lambda: Reader(nn.GRU(3, 4, 2, bidirectional=True), sort=True),
    "rnn": lambda: Reader(nn.RNN(3, 4, nonlinearity="relu")),
    "projected": lambda: Reader(nn.LSTM(3, 4, proj_size=2, bias=False)),
}


def full(rows: int, time: int) -> dict[str, Tensor]:
    """As people give an example."""
    return {"x": torch.randn(rows, time, 3), "lengths": torch.full((rows,), time)}


def inputs(rows: int, time: int) -> dict[str, Tensor]:
    return {"x": torch.randn(rows, time, 3), "lengths": torch.randint(1, time + 1, (rows,))}


@pytest.mark.usually("data-onnx")
@pytest.mark.parametrize(("name", "format_"), [*itertools.product(LAYERS, BACKENDS)])
def test_any_rows_of_any_length(name: str, format_: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = LAYERS[name]().eval()
    made = deploy.export(module, full(3, 9), tmp_path / "m.edge", formats=format_, dimensions=AXES)
    with made.bundle.open(BACKENDS[format_]) as session:
        for rows, time in ((1, 1), (2, 5), (5, 40)):
            given = inputs(rows, time)
            found = session.run({key: value.numpy() for key, value in given.items()})
            for answer, expected in zip(found.values(), module(**given), strict=True):
                torch.testing.assert_close(torch.tensor(answer), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_an_input_beyond_the_shorter_rows_is_not_looked_at(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = LAYERS["lstm"]().eval()
    made = deploy.export(module, inputs(3, 9), tmp_path / "m.edge", formats="onnx", dimensions=AXES)
    given = {"x": torch.randn(2, 7, 3), "lengths": torch.tensor([7, 3])}
    given["x"][1, 3:] = 1e30
    with made.bundle.open("ort-cpu") as session:
        found = session.run({key: value.numpy() for key, value in given.items()})
    for answer, expected in zip(found.values(), module(**given), strict=True):
        torch.testing.assert_close(torch.tensor(answer), expected, atol=1e-5, rtol=1e-5)
