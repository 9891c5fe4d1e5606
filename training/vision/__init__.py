"""Images of any size inside the artefact, and the models of torchvision by name."""

from .preprocess import IMAGENET_DEVIATION, IMAGENET_MEAN, Preprocess
from .torchvision_models import (
    check_size,
    freeze_all_but,
    import_torchvision,
    load_weights,
    make_network,
)

__all__ = [
    "IMAGENET_DEVIATION",
    "IMAGENET_MEAN",
    "Preprocess",
    "check_size",
    "freeze_all_but",
    "import_torchvision",
    "load_weights",
    "make_network",
]
