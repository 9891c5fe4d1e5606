"""Of tensors of free sizes that are made of numbers alone it is known what may be in them."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.nn import functional

from edgeport import deploy, runtimes
from edgeport.deploy.compilers.capture import program

FAR = torch.finfo(torch.float32).min


class Given(nn.Module):
    """Asks something of what it makes of its input's size, or of its input."""

    def __init__(self, ask: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.ask = ask

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if self.ask(x) else x / 2


def captured(ask: Callable[[Tensor], Tensor]) -> Callable[[Tensor], bool]:
    x = torch.arange(1.0, 16).reshape(3, 5)
    axes = {"x": {0: "batch", 1: "time"}}
    source = deploy.exporter.source_of("m", Given(ask), {"x": x}, axes)
    compiled = program.capture(source).module()
    return lambda y: bool((compiled(y)[0] == 2 * y).all())


def extended(x: Tensor) -> Tensor:
    mask = functional.pad(torch.ones(x.shape), (0, -x.shape[1] % 8))
    return (1.0 - mask[:, None, None, :]) * FAR


def written(x: Tensor) -> Tensor:
    mask = extended(x)[:, 0, 0, :]
    mask[mask == 2] = 3
    return mask


def filled(x: Tensor) -> Tensor:
    mask = extended(x)
    return mask.masked_fill_(mask == 2, 3)


def chosen(x: Tensor) -> Tensor:
    return torch.where(x > 3, 0.0, FAR)


KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "padded": lambda x: (extended(x) > 0).flatten().any(),
    "nothing is written": lambda x: (written(x) > 0).any(),
    "nothing is filled": lambda x: (filled(x) > 0).any(),
    "one of two": lambda x: (chosen(x) > 0).any(),
    "all": lambda x: torch.ones_like(x).bool().all(),
    "joined": lambda x: (torch.cat([torch.zeros_like(x), x.new_full(x.shape, 2)]) <= 2).all(),
    "of 64 bits": lambda x: (x.new_full(x.shape, 0.1, dtype=torch.float64) == 0.1).all(),
    "narrowed": lambda x: (x.new_full(x.shape, 0.1) == torch.tensor(0.1)).all(),
}

UNKNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "an input": lambda x: (x > 0).all(),
    "either": lambda x: (chosen(x) < 0).any(),
    "of no elements": lambda x: torch.ones_like(x[1:]).any(),
    "signs": lambda x: (1 / torch.cat([torch.zeros_like(x), -torch.zeros_like(x)]) > 0).all(),
    "drawn": lambda x: (torch.rand(x.shape) >= 0).all(),
    "filled with a size": lambda x: (torch.full(x.shape, x.shape[1]) > 3).all(),
    "padded with a size": lambda x: (functional.pad(x * 0, (0, 1), value=x.shape[0]) > 3).any(),
}


def through_a_view(x: Tensor) -> Tensor:
    mask = torch.zeros(x.shape)
    mask[:, 1:].add_(x[:, 1:])
    return (mask > 0).any()


def through_a_mask(x: Tensor) -> Tensor:
    mask = torch.zeros(x.shape)
    mask[x > 3] = 1
    return (mask > 0).any()


def by_rows(x: Tensor) -> Tensor:
    mask = torch.zeros(x.shape)
    mask[0] = 1
    return (mask > 0).any()


@pytest.mark.parametrize("ask", KNOWN.values(), ids=KNOWN)
def test_what_is_known_decides(ask: Callable[[Tensor], Tensor]) -> None:
    found = captured(ask)
    for shape in ((2, 3), (4, 8), (3, 17)):
        x = torch.rand(shape) * 6 + 1
        assert found(x) == bool(ask(x))


@pytest.mark.parametrize(
    "ask", [*UNKNOWN.values(), through_a_view, through_a_mask, by_rows],
    ids=[*UNKNOWN, "through a view", "through a mask", "by rows"],
)  # fmt: skip  # names beside what they name
def test_what_is_not_known_does_not(ask: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(GuardOnDataDependentSymNode):
        captured(ask)


class Masked(nn.Module):
    """As an encoder that makes a mask of ones where none is given, and asks what is in it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        mask = (1.0 - torch.ones(x.shape[:2])) * FAR
        if (mask > 0).any().item():
            x = x.flip(1)
        scores = x @ x.transpose(1, 2) / math.sqrt(4) + mask[:, None, :]
        found: Tensor = self.layer(scores.softmax(-1) @ x)
        return found


@pytest.mark.slow
def test_a_mask_that_forward_makes_is_in_each_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Masked().eval()
    axes = {"x": {0: "batch", 1: "time"}}
    deploy.export(module, {"x": torch.randn(2, 5, 4)}, tmp_path / "m.edge", dimensions=axes)
    x = torch.randn(3, 11, 4)
    for backend in ("ort-cpu", "libtorch", "torch"):
        with runtimes.open(tmp_path / "m.edge", backend) as session:
            (found,) = session.run({"x": x.numpy()}).values()
        np.testing.assert_allclose(found, module(x).detach().numpy(), rtol=1e-4, atol=1e-6)
