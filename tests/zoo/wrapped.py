"""Modules with something around them, or with habits: hooks, parametrised weights, wrappers."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from .entry import Entry, calibrated, rows


def _mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


class Trained(nn.Module):
    """As it comes out of a training loop: dropout and batch statistics are on."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


def _trained(module: nn.Module) -> nn.Module:
    return calibrated(module, lambda: (torch.randn(64, 4) + 0.5,)).train()


def _halved(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x / 2 for x in args)


def _squared(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.square() + output


def _hooked() -> nn.Module:
    module = _mlp()
    module[0].register_forward_pre_hook(_halved)
    module[0].register_forward_hook(_squared)
    module.register_forward_hook(_squared)
    return module


def _weight_normed() -> nn.Module:
    module = _mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and in many checkpoints
        for layer in (module[0], module[2]):
            torch.nn.utils.weight_norm(layer)
            gain = layer.get_parameter("weight_g")
            with torch.no_grad():
                gain.mul_(1.7)
    return module


def _parametrised(change: Any) -> nn.Module:
    module = _mlp()
    for layer in (module[0], module[2]):
        change(layer)
    return module


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).transpose(-1, -2)


def _symmetric() -> nn.Module:
    layer = nn.Linear(4, 4)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return nn.Sequential(layer, nn.Tanh(), nn.Linear(4, 3))


def _pruned() -> nn.Module:
    module = _mlp()
    prune.l1_unstructured(module[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    return module


def _compiled() -> nn.Module:
    module = torch.compile(_mlp())
    assert isinstance(module, nn.Module)
    return module


class Ramp(nn.LazyLinear):
    """A lazy layer whose first weights are no matter of chance."""

    def reset_parameters(self) -> None:
        if self.in_features and not isinstance(self.weight, nn.UninitializedParameter):
            with torch.no_grad():
                for parameter in (self.weight, self.bias):
                    numbers = torch.arange(1, parameter.numel() + 1, dtype=parameter.dtype)
                    parameter.copy_(numbers.sin().view_as(parameter))


class Printing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = _mlp()

    def forward(self, x: Tensor) -> Tensor:
        print("rows:", x.shape[0])  # noqa: T201  # what people leave in
        y: Tensor = self.layers(x)
        print("mean:", y.mean())  # noqa: T201
        return y


class WritesInput(nn.Module):
    """Changes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = _mlp()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x.mul_(2)
        x[:, 0] = 1
        y: Tensor = self.layers(x)
        return y, x.sum(-1)


class WritesBuffer(nn.Module):
    """Counts its calls and keeps its last answer; neither changes what it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = _mlp()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("last", torch.zeros(3))
        self.calls: Tensor
        self.last: Tensor

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        self.calls += 1
        self.last.copy_(y.detach().mean(0))
        return y


class PlainTensors(nn.Module):
    """Weights that are neither parameters nor buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = [torch.rand(3) + 0.5, torch.rand(3) + 0.5]
        self.layers = _mlp()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        for scale in self.scales:
            y = (y * scale).sin()
        return y


class ScriptedPart(nn.Module):
    """A part of it is TorchScript already."""

    def __init__(self) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated
            self.part = torch.jit.script(_mlp())
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.part(x))
        return y


class Checkpointed(nn.Module):
    """Saves memory in training; says nothing about inference."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = _mlp(), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(checkpoint(self.first, x, use_reentrant=False))
        return y


class NoGrad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = _mlp()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x).softmax(-1)
        return y


class Ensemble(nn.Module):
    """Stacked weights, one call for all."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(5, 4, 3))

    def forward(self, x: Tensor) -> Tensor:
        each: Tensor = torch.vmap(lambda weight: (x @ weight).tanh())(self.weights)
        return each.mean(0)


class Borrowed(nn.Module):
    """A module called with other weights than its own."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.maker = nn.Linear(4, 3), nn.Linear(4, 12)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.maker(x.mean(0)).view(3, 4)
        y: Tensor = torch.func.functional_call(self.net, {"weight": weight}, (x,))
        return y


class Tower(nn.Module):
    """Layers in lists and dicts, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(4, 4)
        self.layers = nn.ModuleList([shared, nn.Linear(4, 4), shared])
        self.acts = nn.ModuleDict({"relu": nn.ReLU(), "tanh": nn.Tanh()})
        self.scale = nn.ParameterList([nn.Parameter(torch.rand(4)) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        for layer, scale in zip(self.layers, self.scale, strict=True):
            x = self.acts["tanh"](layer(x)) * scale + x
        return x


def _x(batch: int) -> dict[str, Any]:
    return {"x": torch.randn(batch, 4)}


def _input(batch: int) -> dict[str, Any]:
    return {"input": torch.randn(batch, 4)}


_WRAPPED = "wrapped"

ENTRIES: Mapping[str, Entry] = {
    "left in train mode": Entry(
        lambda: _trained(Trained()), _x, _WRAPPED, rows("x"), training=True
    ),
    "dropout left on": Entry(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 3)),
        _input,
        _WRAPPED,
        rows("input"),
        training=True,
    ),
    "hooks": Entry(_hooked, _input, _WRAPPED, rows("input")),
    "weight norm": Entry(_weight_normed, _input, _WRAPPED, rows("input")),
    "parametrised weight norm": Entry(
        lambda: _parametrised(parametrizations.weight_norm), _input, _WRAPPED, rows("input")
    ),
    "spectral norm": Entry(
        lambda: _parametrised(parametrizations.spectral_norm), _input, _WRAPPED, rows("input")
    ),
    "parametrised weights": Entry(_symmetric, _input, _WRAPPED, rows("input")),
    "pruned": Entry(_pruned, _input, _WRAPPED, rows("input")),
    "torch.compile": Entry(_compiled, _input, _WRAPPED, rows("input")),
    "data parallel": Entry(lambda: nn.DataParallel(_mlp()), _input, _WRAPPED, rows("input")),
    "lazy": Entry(
        lambda: nn.Sequential(Ramp(8), nn.Tanh(), Ramp(3)), _input, _WRAPPED, rows("input")
    ),
    "prints": Entry(Printing, _x, _WRAPPED, rows("x")),
    "writes into its input": Entry(WritesInput, _x, _WRAPPED, rows("x")),
    "writes into a buffer": Entry(WritesBuffer, _x, _WRAPPED, rows("x")),
    "plain tensors": Entry(PlainTensors, _x, _WRAPPED, rows("x")),
    "scripted part": Entry(ScriptedPart, _x, _WRAPPED, rows("x")),
    "checkpointed": Entry(Checkpointed, _x, _WRAPPED, rows("x")),
    "no grad": Entry(NoGrad, _x, _WRAPPED, rows("x")),
    "vmap": Entry(Ensemble, _x, _WRAPPED, rows("x")),
    "functional call": Entry(Borrowed, _x, _WRAPPED, rows("x")),
    "tower": Entry(Tower, _x, _WRAPPED, rows("x")),
}
