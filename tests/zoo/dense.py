"""Plain networks, and networks that no exporter should be offered."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .entry import Entry, rows, sequences


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU(), nn.AdaptiveAvgPool2d(1),
        )  # fmt: skip  # one line per block
        self.head = nn.Linear(16, 5)
        for norm in (self.features[1], self.features[5]):
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.uniform_(norm.running_mean)  # type: ignore[arg-type]  # never None when tracked
            nn.init.uniform_(norm.running_var, 0.5, 2)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).flatten(1))  # type: ignore[no-any-return]


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(3, 4)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        total = self.left(x) + self.right(y)
        return total.tanh(), total.argmax(-1)


class DictOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.head(x)
        sure = logits.amax(-1) > 0.5
        return {"logits": logits, "probabilities": logits.softmax(-1), "sure": sure}


class TextEncoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.head = nn.Linear(16, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(tokens)).mean(1))  # type: ignore[no-any-return]


class TinyOutputs(nn.Module):
    """Outputs near 1e-9: any fixed tolerance of 1e-5 passes whatever it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) * 1e-9  # type: ignore[no-any-return]


class Branch(nn.Module):
    """A trace keeps only the branch that its example took."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cos() if x.sum() > 0 else x.sin() * 2


class FixedBatch(nn.Module):
    """Bakes the batch of the example into the graph."""

    def forward(self, x: Tensor) -> Tensor:
        rows = int(x.shape[0])
        return x.reshape(rows, 2, -1).sum(1) * float(rows)


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Dead(nn.Module):
    """A network whose output never changes: nothing can be proved with it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(x), x * 0


ENTRIES: Mapping[str, Entry] = {
    "mlp": Entry(
        lambda: nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)),
        lambda batch: {"x": torch.randn(batch, 64)},
        "dense",
        rows("x"),
    ),
    "wide mlp": Entry(  # 9 MB: large weights go to an engine without a copy
        lambda: nn.Sequential(nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, 512)),
        lambda batch: {"x": torch.randn(batch, 64)},
        "dense",
        rows("x"),
    ),
    "convnet": Entry(
        ConvNet, lambda batch: {"image": torch.rand(batch, 3, 16, 16)}, "image", rows("image")
    ),
    "two inputs": Entry(
        TwoInputs,
        lambda batch: {"x": torch.randn(batch, 6), "y": torch.randn(batch, 3)},
        "structure",
        rows("x", "y"),
    ),
    "dict output": Entry(
        DictOutput, lambda batch: {"x": torch.randn(batch, 6)}, "structure", rows("x")
    ),
    "text encoder": Entry(
        TextEncoder,
        lambda batch, time: {"tokens": torch.randint(0, 50, (batch, time))},
        "attention",
        sequences("tokens"),
        {"batch": 4},
    ),
    "tiny outputs": Entry(
        TinyOutputs, lambda batch: {"x": torch.randn(batch, 8)}, "dense", rows("x")
    ),
    "no free dimension": Entry(
        lambda: nn.Linear(3, 2), lambda: {"input": torch.randn(2, 3)}, "dense"
    ),
}
