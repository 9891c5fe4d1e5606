"""What the zoo is made of: a module as its user has it, and how to draw inputs that it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import nn

from edgeport.runtimes import Range

Inputs: TypeAlias = dict[str, Any]
"""A parameter of forward -> a tensor, a container of tensors, or a constant."""

Axes: TypeAlias = Mapping[str, Mapping[int, str]]
"""An input (nested ones by their flat names, ``state_0``) -> axis -> free dimension."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One module of the zoo.

    Attributes:
        make: Build it, with weights drawn from torch's generator.
        draw: Draw inputs for the given size of each free dimension: ``draw(batch=2, time=9)``.
        family: Of which kind it is.
        dimensions: What is free.
        sizes: Of the example, where 2 rows and a time of 9 are not meant.
        ranges: Sizes that the module takes, where it does not take every size.
        real_samples: How many drawn samples a user has to give, because values drawn like the
            example's are not valid.
        training: Left in train mode.
        needs: Packages beside torch.
        expected: Format -> family of the diagnosis, where the format cannot hold the module.
    """

    make: Callable[[], nn.Module]
    draw: Callable[..., Inputs]
    family: str
    dimensions: Axes = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    real_samples: int = 0
    training: bool = False
    needs: tuple[str, ...] = ()
    expected: Mapping[str, str] = field(default_factory=dict)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free dimensions."""
        return tuple(
            dict.fromkeys(name for axes in self.dimensions.values() for name in axes.values())
        )

    @property
    def usual(self) -> dict[str, int]:
        """The sizes of the example."""
        return {name: self.sizes.get(name, _USUAL.get(name, 5)) for name in self.free}

    def inputs(self) -> Inputs:
        """Example inputs, from torch's generator."""
        return self.draw(**self.usual)

    def check(self, seed: int, sizes: Mapping[str, int]) -> Inputs:
        """Inputs that no exporter has seen."""
        torch.manual_seed(1_000_000 + seed)
        return self.draw(**sizes)

    def range_of(self, name: str) -> Range:
        """The sizes that a free dimension may take."""
        return self.ranges.get(name, Range())


_USUAL = {"batch": 2, "time": 9}


def rows(*inputs: str, axis: int = 0) -> dict[str, dict[int, str]]:
    """The free batch of these inputs."""
    return {name: {axis: "batch"} for name in inputs}


def sequences(*inputs: str) -> dict[str, dict[int, str]]:
    """Free batch and time of these inputs."""
    return {name: {0: "batch", 1: "time"} for name in inputs}


def calibrated(
    module: nn.Module, draw: Callable[[], tuple[Any, ...]], batches: int = 2
) -> nn.Module:
    """Give batch norms the statistics of random inputs: without them a deep network's outputs
    shrink or grow until nothing is left that discriminates.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the plain average
    module.train()
    with torch.no_grad():
        for _ in range(batches):
            module(*draw())
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return module.eval()


def widened(module: nn.Module, factor: float) -> nn.Module:
    """Scale the weight matrices: initial weights near 0.02 make attention nearly uniform."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
    return module
