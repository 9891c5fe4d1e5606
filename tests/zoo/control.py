"""Python decides what is computed: by values, by sizes, or never twice in the same way."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgeport.runtimes import Range

from .dense import Branch
from .entry import Entry, rows, sequences


class DeepBranch(nn.Module):
    """Two heads, one of them used."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.calm, self.wild = nn.Linear(4, 1), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate(x).mean() > self.gate.bias.mean():
            y: Tensor = self.calm(x)
        else:
            y = self.wild(x).tanh()
        return y


class Condition(nn.Module):
    """The branch as torch wants it written."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.cond(x.sum() > 0, lambda x: x.cos(), lambda x: x.sin() * 2, (x,))
        return y


class Newton(nn.Module):
    """Goes on until it is near enough."""

    def forward(self, x: Tensor) -> Tensor:
        target = x.abs() + 0.1
        root = torch.ones_like(target)
        while (root * root - target).abs().max() > 1e-3:
            root = 0.5 * (root + target / root)
        return root


class LoopOverSize(nn.Module):
    """A running maximum, by hand."""

    def forward(self, x: Tensor) -> Tensor:
        best = x[:, 0]
        total = torch.zeros_like(best)
        for t in range(x.shape[1]):
            best = torch.maximum(best * 0.9, x[:, t])
            total = total + best
        return total


class ItemSlice(nn.Module):
    """Cuts to the longest row: the size of the result is a value of the input."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        longest = int(lengths.max().item())
        return x[:, :longest].cumsum(1)


class Assertions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert x.ndim == 2, f"expected rows of 4 numbers, got {tuple(x.shape)}"
        assert bool(torch.isfinite(x).all()), "not finite"
        y: Tensor = self.head(x)
        return y


class BranchOnSize(nn.Module):
    """Long sequences are halved; both sides are within the declared range."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > 8:
            return nn.functional.max_pool1d(x, 2).mean(1)
        return x.mean(1) * 3


class EarlyExit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x).tanh()
            y: Tensor = self.head(x)
            if y.softmax(-1).amax(-1).min() > 0.4:
                return y
        last: Tensor = self.head(x).tanh()
        return last


class HardRouting(nn.Module):
    """One expert for the whole batch, chosen by its values."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(4, 3)
        self.experts = nn.ModuleList(nn.Linear(4, 5) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x).mean(0) - self.gate.bias
        y: Tensor = self.experts[int(scores.argmax())](x)
        return y


class Suppression(nn.Module):
    """Greedy suppression of overlapping boxes, in plain tensor operators."""

    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        low, high = boxes[:, 0].minimum(boxes[:, 1]), boxes[:, 0].maximum(boxes[:, 1])
        overlap = (high[:, None].minimum(high) - low[:, None].maximum(low)).clamp(min=0)
        joined = high[:, None].maximum(high) - low[:, None].minimum(low)
        similar = overlap / joined > 0.3
        keep, left = torch.zeros_like(scores, dtype=torch.bool), scores.clone()
        for _ in range(4):
            best = left.argmax()
            keep[best] = True
            left = left.masked_fill(similar[best], float("-inf"))
        return keep


class WhileAnyLeft(nn.Module):
    """The same with a loop that ends when nothing is left, and indices as the result."""

    def forward(self, boxes: Tensor, scores: Tensor) -> Tensor:
        order = scores.argsort(descending=True)
        kept = []
        while order.numel() > 0:
            kept.append(order[0])
            far = (boxes[order] - boxes[order[0]]).abs().amax(-1) > 0.5
            order = order[far]
        return torch.stack(kept)


class Ragged(nn.Module):
    """As many results as there are positive inputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = x > 0
        return x[found].sqrt(), found.nonzero()


class Recursive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def deeper(self, x: Tensor, depth: int) -> Tensor:
        y: Tensor = self.layer(x).tanh() + x
        return y if depth == 0 else self.deeper(y, depth - 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.deeper(x, 3)


class _Round(torch.autograd.Function):
    """Rounds forward, lets gradients through backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


class StraightThrough(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Round.apply(self.head(x) * 8)  # type: ignore[no-untyped-call]  # upstream
        return y / 8


class PythonExtras(nn.Module):
    """Names made with f-strings, comprehensions, a try and a lookup in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({f"head_{k}": nn.Linear(4, 2) for k in range(3)})

    def forward(self, x: Tensor) -> Tensor:
        found = {name: head(x) for name, head in self.heads.items() if not name.endswith("_1")}
        try:
            weights = x.weights  # type: ignore[attr-defined]  # the try is what is tested
        except AttributeError:
            weights = {f"head_{k}": float(k + 1) for k in range(3)}
        return torch.cat([found[name] * weights[name] for name in sorted(found)], -1)


def _x(batch: int) -> dict[str, Any]:
    return {"x": torch.randn(batch, 4)}


def _boxes(boxes: int) -> dict[str, Any]:
    return {"boxes": torch.rand(boxes, 2), "scores": torch.rand(boxes)}


_CONTROL = "control flow"

ENTRIES: Mapping[str, Entry] = {
    "branch": Entry(Branch, _x, _CONTROL, rows("x")),
    "branch of layers": Entry(DeepBranch, _x, _CONTROL, rows("x")),
    "torch.cond": Entry(Condition, _x, _CONTROL, rows("x")),
    "while": Entry(Newton, lambda batch: {"x": torch.randn(batch, 4) * 4}, _CONTROL, rows("x")),
    "loop over a size": Entry(
        LoopOverSize,
        lambda batch, time: {"x": torch.randn(batch, time)},
        _CONTROL,
        sequences("x"),
        ranges={"time": Range(1, 64)},
    ),
    "item slice": Entry(
        ItemSlice,
        lambda batch, time: {
            "x": torch.randn(batch, time),
            "lengths": torch.randint(1, time // 2 + 2, (batch,)).clamp(max=time),
        },
        _CONTROL,
        sequences("x") | rows("lengths"),
    ),
    "assertions": Entry(Assertions, _x, _CONTROL, rows("x")),
    "branch on a size": Entry(
        BranchOnSize,
        lambda batch, time: {"x": torch.randn(batch, time)},
        _CONTROL,
        sequences("x"),
        ranges={"time": Range(2, 64)},
    ),
    "early exit": Entry(
        EarlyExit, lambda batch: {"x": torch.randn(batch, 4) * 2}, _CONTROL, rows("x")
    ),
    "hard routing": Entry(HardRouting, _x, _CONTROL, rows("x")),
    "suppression": Entry(
        Suppression, _boxes, _CONTROL, {"boxes": {0: "boxes"}, "scores": {0: "boxes"}}, {"boxes": 9}
    ),
    "suppression by while": Entry(
        WhileAnyLeft,
        _boxes,
        _CONTROL,
        {"boxes": {0: "boxes"}, "scores": {0: "boxes"}},
        {"boxes": 9},
    ),
    "ragged output": Entry(Ragged, _x, _CONTROL, rows("x")),
    "recursion": Entry(Recursive, _x, _CONTROL, rows("x")),
    "custom autograd function": Entry(StraightThrough, _x, _CONTROL, rows("x")),
    "python extras": Entry(PythonExtras, _x, _CONTROL, rows("x")),
}
