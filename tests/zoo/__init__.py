"""A zoo of modules, each with inputs that exercise it and its own oracle. Weights are seeded."""

from collections.abc import Mapping

import torch
from torch import nn

from . import (
    attention,
    control,
    dense,
    images,
    operators,
    precision,
    recurrent,
    structures,
    text,
    vision,
    wrapped,
)
from .dense import Branch, Dead, FixedBatch, Noise
from .entry import Entry, Inputs

__all__ = ["ZOO", "Branch", "Dead", "Entry", "FixedBatch", "Inputs", "Noise", "inputs", "make"]

ZOO: Mapping[str, Entry] = {
    **dense.ENTRIES,
    **images.ENTRIES,
    **recurrent.ENTRIES,
    **attention.ENTRIES,
    **structures.ENTRIES,
    **control.ENTRIES,
    **operators.ENTRIES,
    **wrapped.ENTRIES,
    **precision.ENTRIES,
    **vision.ENTRIES,
    **text.ENTRIES,
}


def make(name: str) -> nn.Module:
    """A module of the zoo as its user has it: in eval mode, with few exceptions. Seeded."""
    torch.manual_seed(0)
    entry = ZOO[name]
    return entry.make().train(entry.training)


def inputs(name: str) -> Inputs:
    """Its seeded example inputs."""
    torch.manual_seed(1)
    return ZOO[name].inputs()
