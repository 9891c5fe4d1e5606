"""Inputs and outputs of every shape."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgeport.runtimes import Range

from .entry import Entry, rows


class KeywordOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, *, scale: Tensor, shift: Tensor | None = None) -> Tensor:
        y: Tensor = self.head(x) * scale
        return y if shift is None else y + shift


class OptionalMiddle(nn.Module):
    """What is left out stands between what is given."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        y: Tensor = self.head(x)
        if mask is not None:
            y = y * mask
        if bias is not None:
            y = y + bias
        return y


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        y = self.head(x)
        return y, {"size": y.norm(dim=-1), "parts": [y.relu(), (-y).relu()]}


@dataclass(frozen=True)
class Prediction:
    logits: Tensor
    embedding: Tensor
    loss: Tensor | None = None


class DataclassOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Prediction:
        hidden = self.body(x).tanh()
        return Prediction(self.head(hidden), hidden)


class Pair(NamedTuple):
    mean: Tensor
    deviation: Tensor


class NamedTupleOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Pair:
        mean, raw = self.head(x).chunk(2, -1)
        return Pair(mean, nn.functional.softplus(raw))


class NoneInside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        y = self.head(x)
        return y, None, y.exp()


class DictInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 6)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        words: Tensor = self.embed(batch["ids"])
        return (words * batch["weights"].unsqueeze(-1)).sum(1)


class ListInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 3)

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        return [self.mix(image).mean((2, 3)) for image in images]


@dataclass
class Graph:
    nodes: Tensor
    weights: Tensor


class DataclassInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 4)

    def forward(self, graph: Graph) -> Tensor:
        values: Tensor = self.head(graph.nodes)
        return graph.weights.softmax(-1) @ values.relu()


class Constants(nn.Module):
    """Python values decide what is computed."""

    def forward(self, x: Tensor, normalise: bool, power: int, mode: str = "sum") -> Tensor:
        y = x / x.norm(dim=-1, keepdim=True) if normalise else x
        y = y**power
        return y.sum(-1) if mode == "sum" else y.amax(-1)


class Modes(nn.Module):
    """A list of strings says what to do."""

    def forward(self, x: Tensor, modes: list[str]) -> Tensor:
        for mode in modes:
            if mode == "sin":
                x = x.sin() * 2
            elif mode == "square":
                x = x * x
        return x


class IntegersAndFlags(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)

    def forward(self, ids: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.where(keep.unsqueeze(-1), self.embed(ids), -1.0)
        return y, (ids * 3 - 5) % 4, keep & (ids > 4)


class Scalars(nn.Module):
    """A 0-d tensor goes in, and one comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
        scaled = self.head(x) / temperature
        return scaled.softmax(-1), scaled.logsumexp(-1).mean()


class EmptyMemory(nn.Module):
    """Nothing remembered yet: an input without elements."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return torch.cat([memory, self.head(x).unsqueeze(1)], 1).sum(1)


class ManyOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(4, k + 2) for k in range(8))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [head(x).softmax(-1) for head in self.heads]


class SameTwice(nn.Module):
    """One tensor in two places, an input handed back, a view of an input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        y = self.head(x)
        return y, y, x, x[:, 1:3]


class UnusedInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y: Tensor = self.head(x)
        return y


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        one, two = self.body(left), self.body(right)
        return nn.functional.cosine_similarity(one, two), torch.pairwise_distance(one, two)


class TwoSets(nn.Module):
    """Every row of one set against every row of another."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, 4), nn.Linear(3, 4)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        scores = self.left(users) @ self.right(items).t()
        return scores, scores.argmax(-1)


class VariableArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, *parts: Tensor) -> Tensor:
        y: Tensor = self.head(torch.stack(parts).sum(0))
        return y


def _x(batch: int) -> dict[str, Any]:
    return {"x": torch.randn(batch, 4)}


ENTRIES: Mapping[str, Entry] = {
    "keyword only": Entry(
        KeywordOnly,
        lambda batch: {"x": torch.randn(batch, 4), "scale": torch.randn(batch, 3)},
        "structure",
        rows("x", "scale"),
    ),
    "optional middle": Entry(
        OptionalMiddle,
        lambda batch: {"x": torch.randn(batch, 4), "mask": None, "bias": torch.randn(3)},
        "structure",
        rows("x"),
    ),
    "nested output": Entry(Nested, _x, "structure", rows("x")),
    "dataclass output": Entry(DataclassOutput, _x, "structure", rows("x")),
    "named tuple output": Entry(NamedTupleOutput, _x, "structure", rows("x")),
    "none inside": Entry(NoneInside, _x, "structure", rows("x")),
    "dict input": Entry(
        DictInput,
        lambda batch, time: {
            "batch": {
                "ids": torch.randint(0, 20, (batch, time)),
                "weights": torch.randn(batch, time),
            }
        },
        "structure",
        {name: {0: "batch", 1: "time"} for name in ("batch_ids", "batch_weights")},
    ),
    "list input": Entry(
        ListInput,
        lambda batch: {"images": [torch.randn(batch, 3, side, side) for side in (5, 8)]},
        "structure",
        rows("images_0", "images_1"),
    ),
    "dataclass input": Entry(
        DataclassInput,
        lambda nodes: {"graph": Graph(torch.randn(nodes, 5), torch.randn(nodes, nodes))},
        "structure",
        {"graph_nodes": {0: "nodes"}, "graph_weights": {0: "nodes", 1: "nodes"}},
    ),
    "constants": Entry(
        Constants,
        lambda batch: {"x": torch.randn(batch, 4), "normalise": True, "power": 3, "mode": "max"},
        "structure",
        rows("x"),
    ),
    "list of strings": Entry(
        Modes,
        lambda batch: {"x": torch.randn(batch, 4), "modes": ["sin", "square"]},
        "structure",
        rows("x"),
    ),
    "integers and flags": Entry(
        IntegersAndFlags,
        lambda batch: {
            "ids": torch.randint(0, 10, (batch, 3), dtype=torch.int32),
            "keep": torch.rand(batch, 3) < 0.5,
        },
        "structure",
        rows("ids", "keep"),
    ),
    "scalars": Entry(
        Scalars,
        lambda batch: {"x": torch.randn(batch, 4), "temperature": torch.rand(()) + 0.5},
        "structure",
        rows("x"),
    ),
    "empty memory": Entry(
        EmptyMemory,
        lambda batch, past: {"x": torch.randn(batch, 4), "memory": torch.randn(batch, past, 3)},
        "structure",
        {"x": {0: "batch"}, "memory": {0: "batch", 1: "past"}},
        {"past": 3},
        {"past": Range(0, 32)},
    ),
    "many outputs": Entry(ManyOutputs, _x, "structure", rows("x")),
    "same tensor twice": Entry(SameTwice, _x, "structure", rows("x")),
    "unused input": Entry(
        UnusedInput,
        lambda batch: {"x": torch.randn(batch, 4), "labels": torch.randint(0, 3, (batch,))},
        "structure",
        rows("x", "labels"),
    ),
    "siamese": Entry(
        Siamese,
        lambda batch: {"left": torch.randn(batch, 6), "right": torch.randn(batch, 6)},
        "structure",
        rows("left", "right"),
    ),
    "two sets": Entry(
        TwoSets,
        lambda users, items: {"users": torch.randn(users, 5), "items": torch.randn(items, 3)},
        "structure",
        {"users": {0: "users"}, "items": {0: "items"}},
        {"users": 4, "items": 6},
    ),
    "variable arguments": Entry(
        VariableArguments,
        lambda batch: {"parts": (torch.randn(batch, 4), torch.randn(batch, 4))},
        "structure",
        rows("parts_0", "parts_1"),
    ),
}
