"""Single operators that exporters lack, or get wrong without a word."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeport.runtimes import Range

from .entry import Entry, Inputs, rows, sequences


class Spectrum(nn.Module):
    """Complex numbers inside."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.rand(9))
        self.filter: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        waves = torch.fft.rfft(x, dim=-1)  # (B, 16) -> (B, 9) complex
        return waves.abs(), torch.fft.irfft(waves * self.filter, n=16, dim=-1)


class Spectrogram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(16))
        self.window: Tensor

    def forward(self, wave: Tensor) -> Tensor:
        waves = torch.stft(wave, 16, 8, window=self.window, center=True, return_complex=True)
        return (waves.abs().square() + 1e-6).log()


class OrderStatistics(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x.median(-1).values, x.kthvalue(3, -1).values, x.sort(-1, descending=True).values


class Cumulative(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return x.cumprod(-1), x.cummax(-1).values, x.logcumsumexp(-1)


class Distances(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cdist(x, y), torch.cdist(x, y, p=1.0)


class Buckets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.linspace(-1.5, 1.5, 7))
        self.edges: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.searchsorted(self.edges, x), torch.bucketize(x, self.edges, right=True)


class Division(nn.Module):
    """Integers, negative ones and such as float32 cannot hold."""

    def forward(self, n: Tensor, d: Tensor) -> list[Tensor]:
        floor = torch.div(n, d, rounding_mode="floor")
        return [n // d, n % d, floor, torch.div(n, d, rounding_mode="trunc"), torch.fmod(n, d)]


class IndexAdd(nn.Module):
    """Some indices come twice."""

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return torch.zeros(6, x.shape[1], dtype=x.dtype).index_add(0, index, x)


class MeanOfNeighbours(nn.Module):
    """One layer of a graph network."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.others = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        source, target = edges[0], edges[1]
        index = target.unsqueeze(-1).expand(-1, nodes.shape[1])
        mean = torch.zeros_like(nodes).scatter_reduce(
            0, index, nodes[source], "mean", include_self=False
        )
        y: Tensor = self.own(nodes) + self.others(mean)
        return torch.relu(y)


class StridedView(nn.Module):
    """Strides of a view that is not contiguous."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_strided(x.transpose(0, 1), (3, 2), (2, 1), 1) * 2


class Einsum(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        outer = torch.einsum("bik,bjk->bij", a, b)
        return outer, torch.einsum("bik,bik->b", a, b), torch.einsum("bii->bi", outer)


class TopK(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, index = x.topk(3, -1)
        return values, index, (x * 2).gather(-1, index.flip(-1))


class LinearAlgebra(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = x @ x.transpose(1, 2) + 2 * torch.eye(3, dtype=x.dtype)
        return torch.linalg.solve(a, x[..., :1]), torch.linalg.det(a)


class Cholesky(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        square = x @ x.transpose(1, 2) + 2 * torch.eye(3, dtype=x.dtype)
        factor: Tensor = torch.linalg.cholesky(square)
        return factor


class Special(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        y = x.abs() + 0.3
        return [x.erf(), y.lgamma(), x.expm1(), y.log1p(), x.sinc(), x.atan2(y), y.xlogy(y)]


class Activations(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        kinds = [
            functional.celu(x, 1.3),
            functional.mish(x),
            functional.hardswish(x),
            functional.softplus(x, 2.0),
            functional.gelu(x),
        ]
        kinds += [
            functional.gelu(x, approximate="tanh"),
            functional.rrelu(x),
            functional.hardtanh(x, -0.5, 0.7),
            functional.selu(x),
        ]
        return torch.stack(
            [
                *kinds,
                functional.logsigmoid(x),
                functional.tanhshrink(x),
                functional.threshold(x, 0.1, 2.0),
            ],
            1,
        )


class Rearrange(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        turned = x.roll(2, 1).flip(-1)
        grid = torch.stack(torch.meshgrid(x[0], x[:, 0], indexing="ij"))
        repeated = x.repeat_interleave(2, dim=1).tile(1, 2)
        return [turned, grid.sum(0), repeated, x.diff(dim=1), x.rot90(1, (0, 1))]


class Bits(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> list[Tensor]:
        return [a & b, a | b, a ^ b, ~a, a << 3, a >> 2, functional.one_hot(a % 5, 5)]


class Experts(nn.Module):
    """The two best of four experts, for each row."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 4)
        self.experts = nn.ModuleList(nn.Linear(6, 5) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2, -1)
        total = torch.zeros(x.shape[0], 5, dtype=x.dtype)
        for number, expert in enumerate(self.experts):
            share = (weights * (chosen == number)).sum(-1, keepdim=True)
            total = total + share * expert(x)
        return total


class ExpertsByIndex(nn.Module):
    """The same, with only the rows that an expert is for."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 3)
        self.experts = nn.ModuleList(nn.Linear(6, 5) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.gate(x).argmax(-1)
        y = x.new_zeros(x.shape[0], 5)
        for number, expert in enumerate(self.experts):
            mine = torch.where(chosen == number)[0]
            y[mine] = expert(x[mine])
        return y


class Moments(nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x.std(-1), x.var(-1, correction=0), x.norm(p=3, dim=-1), x.quantile(0.3, -1)]


class NotFinite(nn.Module):
    """NaN and Inf come and go."""

    def forward(self, x: Tensor) -> list[Tensor]:
        y = (x - 0.5).log()  # NaN below a half
        ratio = x.relu() / x.relu().floor()  # Inf between 0 and 1
        return [y, y.nan_to_num(7.0), torch.where(y.isnan(), x, y), ratio.isinf(), ratio.isnan()]


class Assignments(nn.Module):
    """Slices and masks are written into."""

    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        y[:, 0] = y[:, 1] + 1
        y[y < -1] = -1
        y[:, 2:] += x[:, :2]
        y[0] *= 3
        return y


class Lengths(nn.Module):
    """Counts, and sums by label."""

    def forward(self, labels: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(labels, minlength=5)[:5]
        return counts, torch.zeros(5, dtype=x.dtype).scatter_add(0, labels, x)


class AdaptivePools(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return functional.adaptive_max_pool2d(image, (2, 3)), functional.adaptive_avg_pool2d(
            image, (2, 3)
        )


def _graph(nodes: int, edges: int) -> Inputs:
    return {"nodes": torch.randn(nodes, 4), "edges": torch.randint(0, min(nodes, 5), (2, edges))}


def _integers(batch: int) -> Inputs:
    sign = torch.randint(0, 2, (2, batch, 3)) * 2 - 1
    n = torch.randint(0, 2**40, (batch, 3)) * sign[0]
    return {"n": n, "d": torch.randint(1, 1000, (batch, 3)) * sign[1]}


def _rows(*shape: int) -> Any:
    return lambda batch: {"x": torch.randn(batch, *shape)}


_OPERATOR = "operator"

ENTRIES: Mapping[str, Entry] = {
    "spectrum": Entry(Spectrum, _rows(16), _OPERATOR, rows("x")),
    "spectrogram": Entry(
        Spectrogram,
        lambda batch, time: {"wave": torch.randn(batch, time)},
        _OPERATOR,
        sequences("wave"),
        {"time": 64},
        {"time": Range(16)},
    ),
    "order statistics": Entry(OrderStatistics, _rows(7), _OPERATOR, rows("x")),
    "cumulative": Entry(Cumulative, _rows(7), _OPERATOR, rows("x")),
    "distances": Entry(
        Distances,
        lambda rows, columns: {"x": torch.randn(rows, 4), "y": torch.randn(columns, 4)},
        _OPERATOR,
        {"x": {0: "rows"}, "y": {0: "columns"}},
        {"rows": 4, "columns": 6},
    ),
    "buckets": Entry(Buckets, _rows(4), _OPERATOR, rows("x")),
    "integer division": Entry(Division, _integers, _OPERATOR, rows("n", "d")),
    "index add": Entry(
        IndexAdd,
        lambda batch: {"x": torch.randn(batch, 3), "index": torch.randint(0, 6, (batch,))},
        _OPERATOR,
        rows("x", "index"),
        {"batch": 8},
    ),
    "graph network": Entry(
        MeanOfNeighbours,
        _graph,
        _OPERATOR,
        {"nodes": {0: "nodes"}, "edges": {1: "edges"}},
        {"nodes": 6, "edges": 12},
        {"nodes": Range(5)},
    ),
    "strided view": Entry(StridedView, lambda: {"x": torch.randn(4, 3)}, _OPERATOR),
    "einsum": Entry(
        Einsum,
        lambda batch: {"a": torch.randn(batch, 3, 5), "b": torch.randn(batch, 3, 5)},
        _OPERATOR,
        rows("a", "b"),
    ),
    "top k": Entry(TopK, _rows(8), _OPERATOR, rows("x")),
    "linear algebra": Entry(LinearAlgebra, _rows(3, 4), _OPERATOR, rows("x")),
    "cholesky": Entry(Cholesky, _rows(3, 4), _OPERATOR, rows("x")),
    "special functions": Entry(Special, _rows(4), _OPERATOR, rows("x")),
    "activations": Entry(Activations, _rows(4), _OPERATOR, rows("x")),
    "rearrange": Entry(Rearrange, _rows(5), _OPERATOR, rows("x")),
    "bits": Entry(
        Bits,
        lambda batch: {
            "a": torch.randint(0, 1000, (batch, 3)),
            "b": torch.randint(0, 1000, (batch, 3)),
        },
        _OPERATOR,
        rows("a", "b"),
    ),
    "experts": Entry(Experts, _rows(6), _OPERATOR, rows("x")),
    "experts by index": Entry(ExpertsByIndex, _rows(6), _OPERATOR, rows("x")),
    "moments": Entry(Moments, _rows(6), _OPERATOR, rows("x")),
    "not finite": Entry(NotFinite, _rows(6), _OPERATOR, rows("x"), {"batch": 4}),
    "assignments": Entry(Assignments, _rows(4), _OPERATOR, rows("x")),
    "counts": Entry(
        Lengths,
        lambda batch: {"labels": torch.randint(0, 5, (batch,)), "x": torch.randn(batch)},
        _OPERATOR,
        rows("labels", "x"),
        {"batch": 9},
    ),
    "adaptive pools": Entry(
        AdaptivePools,
        lambda batch: {"image": torch.randn(batch, 2, 7, 8)},
        _OPERATOR,
        rows("image"),
    ),
}
