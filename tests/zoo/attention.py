"""Attention and embeddings, without a library of models."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport.runtimes import Range

from .entry import Entry, Inputs, rows, sequences


class CausalModel(nn.Module):
    """A small GPT whose embedding is also its head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(40, 16), nn.Embedding(64, 16)
        self.mix, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 40, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.embed(tokens) + self.position(places)
        q, k, v = self.mix(self.norm(x)).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, 8)
        y: Tensor = self.head(x + self.out(seen.transpose(1, 2).flatten(2)))
        return y


class MaskedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(12, 3, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.arange(x.shape[1]) >= lengths[:, None]
        y, weights = self.attend(x, x, x, key_padding_mask=hidden)
        return y, weights


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(16, 2, 1, 1, 32, batch_first=True, dropout=0.0)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=target.dtype)
        y: Tensor = self.body(source, target, tgt_mask=mask)
        return y


class Sinusoids(nn.Module):
    """Positions computed from the size of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1], dtype=x.dtype).unsqueeze(1)
        rate = torch.exp(torch.arange(0, 8, 2, dtype=x.dtype) * (-math.log(10_000.0) / 8))
        code = torch.zeros(x.shape[1], 8, dtype=x.dtype)
        code[:, 0::2], code[:, 1::2] = torch.sin(place * rate), torch.cos(place * rate)
        y: Tensor = self.head(x + code)
        return y


class Rotary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("rate", 1.0 / 100 ** (torch.arange(0, 8, 2) / 8), persistent=False)
        self.rate: Tensor

    def turned(self, x: Tensor) -> Tensor:
        angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * self.rate
        even, odd = x[..., 0::2], x[..., 1::2]
        pairs = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
        return torch.stack(pairs, -1).flatten(-2)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.turned(self.query(x)) @ self.turned(self.key(x)).transpose(1, 2)
        return scores.softmax(-1) @ x


class RelativeBias(nn.Module):
    """Distances in buckets: integer division and comparison of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Embedding(9, 1)

    def forward(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1])
        bucket = ((place[None, :] - place[:, None]) // 2).clamp(-4, 4) + 4
        scores = x @ x.transpose(1, 2) / 2 + self.bias(bucket).squeeze(-1)
        shares: Tensor = scores.softmax(-1)
        return shares @ x


class MaskedMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 6, padding_idx=0)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        kept = mask.unsqueeze(-1).to(self.embed.weight.dtype)
        total: Tensor = (self.embed(tokens) * kept).sum(1)
        return total / kept.sum(1).clamp(min=1)


class Cache(nn.Module):
    """One step of a decoder: keys and values so far go in, and come out longer by one."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 6) for _ in range(3))

    def forward(
        self, x: Tensor, past: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        present = []
        for keys, values in past:
            keys = torch.cat([keys, self.key(x)], 1)
            values = torch.cat([values, self.value(x)], 1)
            x = x + functional.scaled_dot_product_attention(self.query(x), keys, values)
            present.append((keys, values))
        return x, present


def _cached(batch: int, past: int) -> Inputs:
    layers = [(torch.randn(batch, past, 6), torch.randn(batch, past, 6)) for _ in range(2)]
    return {"x": torch.randn(batch, 1, 6), "past": layers}


def _bags(batch: int) -> Inputs:
    return {"input": torch.randint(0, 20, (batch, 5))}


ENTRIES: Mapping[str, Entry] = {
    "tied causal model": Entry(
        CausalModel,
        lambda batch, time: {"tokens": torch.randint(0, 40, (batch, time))},
        "attention",
        sequences("tokens"),
        ranges={"time": Range(1, 64)},
    ),
    "masked attention": Entry(
        MaskedAttention,
        lambda batch, time: {
            "x": torch.randn(batch, time, 12),
            "lengths": torch.randint(1, time + 1, (batch,)),
        },
        "attention",
        sequences("x") | rows("lengths"),
        real_samples=3,
    ),
    "encoder and decoder": Entry(
        EncoderDecoder,
        lambda batch, source, target: {
            "source": torch.randn(batch, source, 16),
            "target": torch.randn(batch, target, 16),
        },
        "attention",
        {"source": {0: "batch", 1: "source"}, "target": {0: "batch", 1: "target"}},
        {"source": 6, "target": 4},
    ),
    "sinusoidal positions": Entry(
        Sinusoids,
        lambda batch, time: {"x": torch.randn(batch, time, 8)},
        "attention",
        sequences("x"),
    ),
    "rotary positions": Entry(
        Rotary, lambda batch, time: {"x": torch.randn(batch, time, 8)}, "attention", sequences("x")
    ),
    "relative bias": Entry(
        RelativeBias,
        lambda batch, time: {"x": torch.randn(batch, time, 4)},
        "attention",
        sequences("x"),
    ),
    "masked mean": Entry(
        MaskedMean,
        lambda batch, time: {
            "tokens": torch.randint(1, 30, (batch, time)),
            "mask": torch.rand(batch, time) < 0.7,
        },
        "attention",
        sequences("tokens", "mask"),
    ),
    "key-value cache": Entry(
        Cache,
        _cached,
        "attention",
        {"x": {0: "batch"}}
        | {f"past_{layer}_{part}": {0: "batch", 1: "past"} for layer in (0, 1) for part in (0, 1)},
        {"past": 7},
    ),
    "embedding bag": Entry(
        lambda: nn.EmbeddingBag(20, 6, mode="mean"), _bags, "attention", rows("input")
    ),
    "embedding bag with offsets": Entry(
        lambda: nn.EmbeddingBag(20, 6, mode="sum"),
        lambda: {
            "input": torch.randint(0, 20, (12,)),
            "offsets": torch.cat([torch.zeros(1), torch.rand(3).mul(12).sort()[0]]).long(),
        },
        "attention",
        real_samples=3,  # offsets in another order are undefined, so that no size can be free
    ),
}
