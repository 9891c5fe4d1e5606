"""Models that take raw input: pre-processing and network in one module."""

from .arrays import Features, Pixels
from .columns import Columns
from .layers import ACTIVATIONS, NORMS, Linear, Mlp
from .registry import MODELS
from .small_cnn import SmallCnn
from .staged import Affine, Staged, core_data

__all__ = [
    "ACTIVATIONS",
    "MODELS",
    "NORMS",
    "Affine",
    "Columns",
    "Features",
    "Linear",
    "Mlp",
    "Pixels",
    "SmallCnn",
    "Staged",
    "core_data",
]
