"""Hooks and lambdas that close over a module close over a copy of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeport import deploy, runtimes
from edgeport.deploy.sources.modules import copied

ACTIVATIONS: dict[str, Tensor] = {}


def keep(name: str) -> Callable[..., None]:
    """As MiDaS does: by a global name, and by an attribute of the module."""

    def hook(_: nn.Module, inputs: object, output: Tensor) -> None:
        ACTIVATIONS[name] = output

    return hook


def put(features: dict[str, Tensor], _: nn.Module, inputs: object, output: Tensor) -> None:
    features["first"] = output


class Features(nn.Module):
    """What is within, kept by a hook."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        self.features: Any = {}

        def forget(*_: object) -> None:
            self.features = {}

        def save(_: nn.Module, inputs: object, output: Tensor) -> None:
            forget()
            self.features["first"] = output

        hooks: dict[str, Callable[..., None]] = {
            "closure": save,
            "lambda": lambda _, inputs, output: self.features.update(first=output),
            "partial": partial(put, self.features),
            "global": keep("first"),
        }
        if way == "global":
            self.features = ACTIVATIONS
        self.net[0].register_forward_hook(hooks[way])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(x), self.features["first"]


@pytest.mark.parametrize("way", ["closure", "lambda", "partial", "global"])
def test_a_hook_of_a_copy_writes_into_the_copy(way: str) -> None:
    module = Features(way)
    copy = copied(module)
    x = torch.randn(2, 4)
    assert torch.equal(copy(x)[1], module.net[0](x))
    assert way == "global" or "first" not in Features(way).features
    found: Any = copy.get_submodule("net.0")
    nn.init.zeros_(found.weight)
    assert torch.equal(copy(x)[1], found(x))


def test_what_a_hook_keeps_is_in_the_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    free = {"x": {0: "batch"}}
    module = Features("closure")
    deploy.export(module, torch.randn(3, 4), tmp_path / "a", dimensions=free, formats=["pt2"])
    x = torch.randn(5, 4)
    with runtimes.open(tmp_path / "a", "torch") as session:
        found = session.run({"x": x.numpy()})["output_1"]
    np.testing.assert_allclose(found, module.net[0](x).detach(), rtol=1e-5, atol=1e-6)


class Patched(nn.Module):
    """Its layer's forward is replaced, as tools that add to a layer do, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        before: Any = self.layer.forward
        added = self.layer.added = nn.Parameter(torch.randn(4, 4))
        calls = 0

        def forward(x: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            found: Tensor = before(x) + x @ added
            return found

        def count() -> int:
            return calls

        self.layer.forward = forward  # type: ignore[method-assign, assignment]
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found


def test_methods_weights_and_shared_names_of_functions_are_those_of_the_copy() -> None:
    module = Patched()
    copy: Any = copied(module)
    x = torch.randn(2, 4)
    assert torch.equal(copy(x), module(x))
    assert copy.count() == module.count() == 2
    nn.init.zeros_(copy.layer.added)
    assert torch.equal(copy(x), nn.functional.linear(x, copy.layer.weight, copy.layer.bias))
