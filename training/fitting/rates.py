"""Which learning rate: try a range of them, or compute the largest stable one of a convex model."""

import copy
import math
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import SourceError, UsageError
from edgeport.training.data import DataSet
from edgeport.training.device import computing_on, device_of, forked_random

from .evaluation import tensors
from .history import Settings
from .loop import backward
from .objective import Objective, objective_for
from .optimizers import make_optimizer, needs_closure

_FELL: Final = 0.99
"""Of what the untrained module costs on the same batches: below it, something was learned."""


@dataclass(frozen=True, slots=True)
class RangeTest:
    """A learning-rate range test (Smith 2017).

    Attributes:
        rates: Tried in order, rising.
        costs: Of the batch, smoothed; as many.
        suggested: A tenth of the rate at which the smoothed cost was lowest; ``None`` if it was
            not lower there than that of the untrained module on the same batches, or if that rate
            is below all that were tried.
    """

    rates: tuple[float, ...]
    costs: tuple[float, ...]
    suggested: float | None


def range_test(
    module: nn.Module,
    data: DataSet,
    settings: Settings,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    objective: Objective | None = None,
) -> RangeTest:
    """Train a copy with a rate that rises at every step, until the cost is four times its lowest.

    Args:
        module: Left as it is.
        data: Its training part is used.
        settings: Optimizer, batch size and seed.
        low: First rate.
        high: Last rate.
        steps: How many rates, evenly spaced in their logarithm.
        objective: As in ``fit``.

    Raises:
        UsageError: The range makes no sense, or the optimizer needs a closure; TF32 without a GPU.
        EngineError: The GPU failed, or has too little memory.
        SourceError: Not even the lowest rate gives a finite cost.
    """
    if not (0 < low < high < math.inf and steps >= 10):
        raise UsageError(
            f"a range from {low} to {high} in {steps} steps",
            remedy="use 0 < low < high, and at least 10 steps",
        )
    trial = copy.deepcopy(module).train()
    still = copy.deepcopy(trial)
    optimizer = make_optimizer(trial, replace(settings, learning_rate=low))
    if needs_closure(optimizer):
        raise UsageError(
            f"{type(optimizer).__name__} searches its own step", remedy="no range test is needed"
        )
    device = device_of(trial)
    inputs, labels = tensors(data.train)
    objective = objective or objective_for(labels)
    size = min(settings.batch_size or len(labels), len(labels))
    rates: list[float] = []
    costs: list[float] = []
    fell: list[bool] = []
    smooth = untrained = 0.0
    with computing_on(device, tf32=settings.tf32), forked_random(device):
        torch.manual_seed(settings.seed)
        for step in range(steps):
            rate = low * (high / low) ** (step / (steps - 1))
            rows = torch.randperm(len(labels))[:size]
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = {name: tensor[rows].to(device) for name, tensor in inputs.items()}
            wanted = labels[rows].to(device)
            cost = objective.cost(trial(**batch), wanted)
            if not math.isfinite(cost.item()):
                break
            optimizer.zero_grad()
            backward(cost)
            optimizer.step()
            with torch.no_grad():
                before = objective.cost(still(**batch), wanted)
            untrained = 0.8 * untrained + 0.2 * before.item()
            smooth = 0.8 * smooth + 0.2 * cost.item()
            fell.append(smooth < _FELL * untrained)
            rates.append(rate)
            costs.append(smooth / (1 - 0.8 ** (step + 1)))  # no bias towards 0 at first
            if costs[-1] > 4 * min(costs):
                break
    if not rates:
        raise SourceError(
            f"the cost is not finite at the rate {low:g} already",
            remedy="look for NaN and Inf in the data",
        )
    lowest = costs.index(min(costs))
    suggested = rates[lowest] / 10
    found = fell[lowest] and suggested >= low
    return RangeTest(tuple(rates), tuple(costs), suggested if found else None)


def largest_stable_step(
    features: Tensor, *, classes: int | None = None, decay: float = 0.0
) -> float:
    """The largest step with which full-batch gradient descent of a convex model converges.

    2 / lambda_max of the cost's Hessian (Nesterov 2004, 2.1.5). For the mean squared error that is
    2 X'X / n; for the softmax cross-entropy at most X'X / (2 n) (Boehning 1992), so that the result
    is safe there, not tight. A weight decay d is the gradient of d |w|^2 / 2, whose Hessian is d.

    Args:
        features: (n, features), with a column of ones if there is a bias.
        classes: ``None`` for least squares.
        decay: Weight decay of the descent, at least 0.
    """
    gram = features.double().T @ features.double() / len(features)
    largest = float(torch.linalg.eigvalsh(gram)[-1])
    return 2 / (largest * (2 if classes is None else 0.5) + decay)
