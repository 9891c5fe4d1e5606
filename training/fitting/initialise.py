"""Initial weights: a remedy for gradients that vanish or explode."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

_KINDS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "kaiming": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "xavier": nn.init.xavier_uniform_,
    "orthogonal": nn.init.orthogonal_,
}


@torch.no_grad()
def initialise(module: nn.Module, kind: str) -> None:
    """Draw every weight of two axes or more anew, and set the biases beside them to 0.

    Args:
        module: Changed in place. Embeddings and normalisation layers keep what they have.
        kind: ``kaiming`` (He et al. 2015, for ReLU), ``xavier`` (Glorot & Bengio 2010, for tanh
            and sigmoid) or ``orthogonal`` (Saxe et al. 2013).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            continue
        own = dict(layer.named_parameters(recurse=False))
        if not any(weight.ndim >= 2 for weight in own.values()):
            continue
        for weight in own.values():
            if weight.ndim >= 2:
                drawn = weight.cpu()  # a seed draws the same weights for every device
                weight.copy_(_KINDS[kind](drawn))
            else:
                weight.zero_()
