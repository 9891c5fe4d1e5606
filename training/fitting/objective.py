"""What is minimised and what is shown: the loss of one example, the cost, the score."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgeport.runtimes.errors import SourceError

PerExample = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss and a metric.

    Attributes:
        name: Of the loss, with its unit if it has one.
        loss: (outputs, labels) -> (batch,) loss of each example.
        cost: (outputs, labels) -> (), the mean of the loss; may be fused.
        metric: Name of the score.
        score: (outputs, labels) of all held-out examples -> number; larger is better.
    """

    name: str
    loss: PerExample
    cost: PerExample
    metric: str
    score: Callable[[Tensor, Tensor], float]


def _cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, labels, reduction="none")


def _accuracy(outputs: Tensor, labels: Tensor) -> float:
    return int((outputs.argmax(-1) == labels).sum()) / len(labels)


def _squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    # (B,) or (B, values) -> (B,)
    return (outputs - labels).square().reshape(len(labels), -1).mean(1)


def _mean_squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    if outputs.shape != labels.shape:  # torch would broadcast (B, 1) against (B,), and warn
        raise SourceError(
            f"the module returns {list(outputs.shape)}, the labels are {list(labels.shape)}",
            remedy="return one value per label: squeeze the last axis with [:, 0]",
        )
    return functional.mse_loss(outputs, labels)


def r2(outputs: Tensor, labels: Tensor) -> float:
    """Coefficient of determination, 1 - SS_res / SS_tot, as scikit-learn's ``r2_score``.

    Of equal labels it is that, too: 1 if they are all met, else 0.
    """
    outputs, labels = outputs.double(), labels.double()  # float32 has no room for their mean
    residual = (labels - outputs).square().sum()
    total = (labels - labels.mean(0)).square().sum()
    return float(1 - residual / total) if total else float(residual == 0)


CLASSIFICATION = Objective(
    "cross-entropy", _cross_entropy, functional.cross_entropy, "accuracy", _accuracy
)
"""Logits (batch, classes) against classes (batch,) int64; nats."""

REGRESSION = Objective("squared error", _squared_error, _mean_squared_error, "R2", r2)
"""Values against values of the same shape."""


def objective_for(labels: Tensor) -> Objective:
    """The usual one for these labels."""
    return REGRESSION if labels.is_floating_point() else CLASSIFICATION


@torch.no_grad()
def losses(objective: Objective, outputs: Tensor, labels: Tensor) -> Tensor:
    """The loss of each example: (n,) on the CPU."""
    return objective.loss(outputs, labels).detach().cpu()
