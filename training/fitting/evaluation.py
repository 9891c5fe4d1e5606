"""What a module answers to examples, and how good that is: nothing is trained here."""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from edgeport.training.data import Labelled
from edgeport.training.device import device_of

from .objective import Objective

_EVALUATION_ROWS: Final = 1024  # at most so many at a time, and
_EVALUATION_BYTES: Final = 2**24  # bytes of them; any gives the same figures but for rounding

Tensors = Mapping[str, Tensor]


def parts(inputs: Tensors, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """All examples, some rows at a time, on a device."""
    count = len(next(iter(inputs.values())))
    row_bytes = sum(tensor[0].nbytes for tensor in inputs.values())
    rows = min(_EVALUATION_ROWS, max(1, _EVALUATION_BYTES // max(1, row_bytes)))
    for start in range(0, count, rows):
        yield {name: t[start : start + rows].to(device) for name, t in inputs.items()}


@torch.no_grad()
def outputs_of(module: nn.Module, inputs: Tensors) -> Tensor:
    """What a module returns in eval mode for all examples: where it is, some rows at a time."""
    module.eval()
    return torch.cat([module(**rows) for rows in parts(inputs, device_of(module))])


@torch.no_grad()
def evaluate(
    module: nn.Module, examples: tuple[Tensors, Tensor], objective: Objective
) -> tuple[float, float]:
    """Cost and score over examples, in eval mode."""
    inputs, labels = examples
    outputs = outputs_of(module, inputs)
    labels = labels.to(outputs.device)
    return float(objective.loss(outputs, labels).double().mean()), objective.score(outputs, labels)


def tensors(examples: Labelled) -> tuple[dict[str, Tensor], Tensor]:
    """Copies of examples as tensors on the CPU; what is on the disk stays there."""
    inputs = {
        name: torch.from_numpy(array) if isinstance(array, np.memmap) else torch.tensor(array)
        for name, array in examples.inputs.items()
    }
    return inputs, torch.tensor(examples.labels)
