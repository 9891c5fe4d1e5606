"""Which learning rate: try a range of them, or compute the largest stable one of a convex model."""

import copy
import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import SourceError, UsageError
from edgeport.training.data import DataSet
from edgeport.training.device import computing_on, device_of, forked_random

from .evaluation import Tensors, tensors
from .history import Settings
from .loop import backward, normalising
from .objective import Objective, objective_for
from .optimizers import make_optimizer, make_step, needs_closure

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
        UsageError: The range makes no sense, the optimizer needs a closure, or a batch is too small
            to be normalised; TF32 without a GPU.
        EngineError: The GPU failed, or has too little memory.
        SourceError: Not even the lowest rate gives a finite cost.
    """
    if not (0 < low < high < math.inf and steps >= 10):
        raise UsageError(
            f"a range from {low} to {high} in {steps} steps",
            remedy="use 0 < low < high, and at least 10 steps",
        )
    device = device_of(module)
    inputs, labels = tensors(data.train)
    trial = _Trial(module, settings, objective or objective_for(labels))
    size = min(settings.batch_size or len(labels), len(labels))
    with computing_on(device, tf32=settings.tf32), forked_random(device), normalising():
        torch.manual_seed(settings.seed)
        for step in range(steps):
            rows = torch.randperm(len(labels))[:size]
            batch = {name: tensor[rows].to(device) for name, tensor in inputs.items()}
            rate = low * (high / low) ** (step / (steps - 1))
            if not trial.goes_on(rate, batch, labels[rows].to(device)):
                break
    if not trial.rates:
        raise SourceError(
            f"the cost is not finite at the rate {low:g} already",
            remedy="look for NaN and Inf in the data",
        )
    return trial.found(low)


class _Trial:
    """A copy of a module that is trained, beside one that is not, and what both cost.

    Raises:
        UsageError: The optimizer needs a closure, or refuses its options.
    """

    def __init__(self, module: nn.Module, settings: Settings, objective: Objective) -> None:
        self._module = copy.deepcopy(module).train()
        self._untrained = copy.deepcopy(self._module)
        self._optimizer = make_optimizer(self._module, settings)
        if needs_closure(self._optimizer):
            raise UsageError(
                f"{type(self._optimizer).__name__} searches its own step",
                remedy="no range test is needed",
            )
        self._objective = objective
        self._smooth = self._smooth_untrained = 0.0
        self._fell: list[bool] = []
        self.rates: list[float] = []
        self._costs: list[float] = []

    def goes_on(self, rate: float, batch: Tensors, wanted: Tensor) -> bool:
        """Train on a batch; whether the cost is finite, and no more than four times its lowest."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        cost = self._objective.cost(self._module(**batch), wanted)
        if not math.isfinite(cost.item()):
            return False
        self._optimizer.zero_grad()
        backward(cost)
        make_step(self._optimizer)
        with torch.no_grad():
            before = self._objective.cost(self._untrained(**batch), wanted)
        self._smooth_untrained = 0.8 * self._smooth_untrained + 0.2 * before.item()
        self._smooth = 0.8 * self._smooth + 0.2 * cost.item()
        self._fell.append(self._smooth < _FELL * self._smooth_untrained)
        self.rates.append(rate)
        self._costs.append(
            self._smooth / (1 - 0.8 ** len(self.rates))
        )  # no bias towards 0 at first
        return self._costs[-1] <= 4 * min(self._costs)

    def found(self, low: float) -> RangeTest:
        """What the rates that were tried say; ``low`` is the first of them."""
        lowest = self._costs.index(min(self._costs))
        suggested = self.rates[lowest] / 10
        is_good = self._fell[lowest] and suggested >= low
        return RangeTest(tuple(self.rates), tuple(self._costs), suggested if is_good else None)


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
