"""The networks that are trained: linear, MLP, small CNN."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {
    "relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "silu": nn.SiLU,
}  # fmt: skip

NORMS: Final = ("none", "batch", "layer")


class Linear(nn.Module):
    """Linear regression, or logistic regression with as many logits as classes.

    It starts at 0: the cost is convex, and gradient descent from there ends at the solution of
    least norm, which is the closed form's where columns depend on one another.

    Args:
        features: How many.
        classes: 0 to predict a value.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.weight = nn.Parameter(torch.zeros(max(classes, 1), features))
        self.bias = nn.Parameter(torch.zeros(max(classes, 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Predict: (batch, features) -> logits (batch, classes), or values (batch,)."""
        found = nn.functional.linear(features, self.weight, self.bias)
        return found if self.classes else found[:, 0]


class Mlp(nn.Module):
    """Linear layers with activations, normalisation and dropout between them.

    Args:
        features: How many go in.
        hidden: Widths of the hidden layers.
        classes: 0 to predict a value.
        activation: A key of ``ACTIVATIONS``.
        norm: One of ``NORMS``, in front of each activation.
        dropout: Share of hidden units that are left out in training.

    Raises:
        ValueError: A name is not known, or a width is no number above 0.
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int],
        classes: int,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS or norm not in NORMS or min(hidden, default=1) < 1:
            raise ValueError(f"no MLP has {activation=}, {norm=}, hidden={list(hidden)}")
        self.classes = classes
        layers: list[nn.Module] = []
        for width in hidden:
            layers.append(nn.Linear(features, width))
            if norm != "none":
                layers.append(nn.BatchNorm1d(width) if norm == "batch" else nn.LayerNorm(width))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
            features = width
        self.layers = nn.Sequential(*layers, nn.Linear(features, max(classes, 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Predict: (batch, features) -> logits (batch, classes), or values (batch,)."""
        found: Tensor = self.layers(features)
        return found if self.classes else found[:, 0]
