"""Networks with a state that goes along the time."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from edgeport.runtimes import Range

from .entry import Entry, rows, sequences


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.layers = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.head(self.layers(self.embed(tokens))[0])
        return y


class Stateful(nn.Module):
    """The state is an input and an output: the caller keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(4, 6, batch_first=True)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, (h, c) = self.layer(x, state)
        return y, (h, c)


class CellLoop(nn.Module):
    """A Python loop over a free time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 6, dtype=x.dtype)
        c = torch.zeros(x.size(0), 6, dtype=x.dtype)
        steps = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            steps.append(h)
        return torch.stack(steps, 1)


class Decoder(nn.Module):
    """Six greedy steps: each token is the last one's answer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.head = nn.Embedding(20, 8), nn.GRUCell(8, 8), nn.Linear(8, 20)
        with torch.no_grad():
            self.head.weight.mul_(4)

    def forward(self, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        token, tokens = start, []
        for _ in range(6):
            state = self.cell(self.embed(token), state)
            token = self.head(state).argmax(-1)
            tokens.append(token)
        return torch.stack(tokens, 1), state


class Translator(nn.Module):
    """An encoder, and a decoder that looks back at it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(5, 8, batch_first=True)
        self.decoder = nn.GRU(5, 8, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        seen, state = self.encoder(source)
        asked, _ = self.decoder(target, state)
        weights = (asked @ seen.transpose(1, 2)).softmax(-1)  # (B, target, source)
        y: Tensor = self.head(torch.cat([asked, weights @ seen], -1))
        return y


class Packed(nn.Module):
    """Rows of different lengths, packed."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.GRU(4, 6, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        held = lengths.clamp(max=x.shape[1])
        packed = pack_padded_sequence(x, held, batch_first=True, enforce_sorted=False)
        states, last = self.layer(packed)
        padded, _ = pad_packed_sequence(states, batch_first=True, total_length=x.shape[1])
        return padded, last


def _lengths(batch: int, time: int) -> Tensor:
    return torch.randint(1, time + 1, (batch,))


ENTRIES: Mapping[str, Entry] = {
    "lstm": Entry(
        lambda: nn.LSTM(5, 7, batch_first=True),
        lambda batch, time: {"input": torch.randn(batch, time, 5)},
        "recurrent",
        sequences("input"),
    ),
    "lstm with state": Entry(
        Stateful,
        lambda batch, time: {
            "x": torch.randn(batch, time, 4),
            "state": (torch.randn(1, batch, 6), torch.randn(1, batch, 6)),
        },
        "recurrent",
        sequences("x") | rows("state_0", "state_1", axis=1),
    ),
    "gru of two directions": Entry(
        lambda: nn.GRU(5, 7, 2, batch_first=True, bidirectional=True),
        lambda batch, time: {"input": torch.randn(batch, time, 5)},
        "recurrent",
        sequences("input"),
    ),
    "gru with state": Entry(
        lambda: nn.GRU(5, 7),
        lambda batch, time: {"input": torch.randn(time, batch, 5), "hx": torch.randn(1, batch, 7)},
        "recurrent",
        {"input": {0: "time", 1: "batch"}, "hx": {1: "batch"}},
    ),
    "relu rnn": Entry(
        lambda: nn.RNN(5, 7, nonlinearity="relu", batch_first=True),
        lambda batch, time: {"input": torch.randn(batch, time, 5)},
        "recurrent",
        sequences("input"),
    ),
    "tagger": Entry(
        Tagger,
        lambda batch, time: {"tokens": torch.randint(0, 30, (batch, time))},
        "recurrent",
        sequences("tokens"),
    ),
    "lstm cell loop": Entry(
        CellLoop,
        lambda batch, time: {"x": torch.randn(batch, time, 4)},
        "recurrent",
        sequences("x"),
        ranges={"time": Range(1, 64)},
    ),
    "greedy decoder": Entry(
        Decoder,
        lambda batch: {"state": torch.randn(batch, 8), "start": torch.randint(0, 20, (batch,))},
        "recurrent",
        rows("state", "start"),
    ),
    "translator": Entry(
        Translator,
        lambda batch, source, target: {
            "source": torch.randn(batch, source, 5),
            "target": torch.randn(batch, target, 5),
        },
        "recurrent",
        {"source": {0: "batch", 1: "source"}, "target": {0: "batch", 1: "target"}},
        {"source": 6, "target": 4},
    ),
    "projected lstm": Entry(
        lambda: nn.LSTM(5, 8, proj_size=3, batch_first=True),
        lambda batch, time: {"input": torch.randn(batch, time, 5)},
        "recurrent",
        sequences("input"),
    ),
    "packed sequence": Entry(
        Packed,
        lambda batch, time: {"x": torch.randn(batch, time, 4), "lengths": _lengths(batch, time)},
        "recurrent",
        sequences("x") | rows("lengths"),
    ),
}
