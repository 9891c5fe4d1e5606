"""Other floats than float32."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .entry import Entry, rows


class Narrow(nn.Module):
    """float32 outside, another dtype inside."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.to(self.layers[0].weight.dtype))  # type: ignore[arg-type]
        return y.to(x.dtype)


class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y: Tensor = self.layers(x)
        return y.float()


class MixedOutputs(nn.Module):
    """One output of each dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y = self.head(x)
        return (
            y.half(),
            y.double(),
            (y * 10).to(torch.int32),
            (y * 10).round().abs().to(torch.uint8),
        )


class Transformer16(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.half()

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.layer(self.embed(tokens))
        return y


def _mlp(dtype: torch.dtype) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).to(dtype)


def _drawn(dtype: torch.dtype):  # type: ignore[no-untyped-def]  # a plain lambda
    return lambda batch: {"input": torch.randn(batch, 8).to(dtype)}


ENTRIES: Mapping[str, Entry] = {
    "float16": Entry(
        lambda: _mlp(torch.float16), _drawn(torch.float16), "precision", rows("input")
    ),
    "bfloat16": Entry(
        lambda: _mlp(torch.bfloat16), _drawn(torch.bfloat16), "precision", rows("input")
    ),
    "float64": Entry(
        lambda: _mlp(torch.float64), _drawn(torch.float64), "precision", rows("input")
    ),
    "bfloat16 inside": Entry(
        lambda: Narrow(torch.bfloat16),
        lambda batch: {"x": torch.randn(batch, 8)},
        "precision",
        rows("x"),
    ),
    "float16 inside": Entry(
        lambda: Narrow(torch.float16),
        lambda batch: {"x": torch.randn(batch, 8)},
        "precision",
        rows("x"),
    ),
    "autocast": Entry(Autocast, lambda batch: {"x": torch.randn(batch, 8)}, "precision", rows("x")),
    "outputs of four dtypes": Entry(
        MixedOutputs, lambda batch: {"x": torch.randn(batch, 8)}, "precision", rows("x")
    ),
    "float16 transformer": Entry(
        Transformer16,
        lambda batch, time: {"tokens": torch.randint(0, 20, (batch, time))},
        "precision",
        {"tokens": {0: "batch", 1: "time"}},
    ),
}
