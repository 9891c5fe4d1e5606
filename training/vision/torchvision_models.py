"""Models of torchvision by name: an extra, and its weights from a file that is here already."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import (
    BackendMissingError,
    FormatError,
    MissingFileError,
    SourceError,
    UsageError,
    first_line,
)

_REMEDY: Final = "pip install 'edgeport[vision]'"
_operators: Any = None
"""Keeps the operators below known for as long as this process runs."""


def make_network(name: str, classes: int) -> nn.Module:
    """A classification model of torchvision with fresh weights.

    Args:
        name: As ``torchvision.models.list_models()`` has it.
        classes: Logits of its last layer.

    Raises:
        BackendMissingError: torchvision is not installed, or does not fit torch.
        UsageError: It has no such model, or it does not classify images.
    """
    models = import_torchvision()
    known: list[str] = models.list_models(module=models)
    if name not in known:
        import difflib

        close = difflib.get_close_matches(name, known, n=1)
        some = "resnet18, mobilenet_v3_small, efficientnet_b0, vit_b_16, ..."
        raise UsageError(
            f"torchvision has no classification model {name!r}",
            remedy=f"did you mean {close[0]!r}?" if close else f"use one of {some}",
        )
    extra = (
        {"aux_logits": False, "init_weights": True} if name in ("googlenet", "inception_v3") else {}
    )
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **extra)
    return network


@torch.no_grad()
def check_size(network: nn.Module, side: int) -> None:
    """Find out before a training whether a network takes images of a size.

    Args:
        network: Left in eval mode.
        side: Height and width.

    Raises:
        SourceError: It does not.
    """
    try:
        network.eval()(torch.zeros(1, 3, side, side))
    except (RuntimeError, ValueError, AssertionError) as e:
        raise SourceError(
            f"{type(network).__name__} takes no images of {side}x{side}: {first_line(e)}",
            remedy="use the --crop that it was made for, 224 of most, and a --resize of at least "
            "as much",
        ) from e


def load_weights(network: nn.Module, file: Path) -> list[str]:
    """Take weights from a local file, but those of layers that have another shape here.

    Args:
        network: Changed in place.
        file: ``.safetensors``, or ``.pth`` as torchvision publishes them (read with
            ``weights_only``, so that no code of the file runs).

    Returns:
        Names of the tensors that were left as they are: the last layer, if it has other classes.

    Raises:
        MissingFileError: There is no such file.
        FormatError: It holds no weights.
        SourceError: They are of another model.
    """
    found = _read(file)
    own = network.state_dict()
    fitting = {n: t for n, t in found.items() if n in own and t.shape == own[n].shape}
    left = [n for n in own if n not in fitting and not n.endswith("num_batches_tracked")]
    if sum(own[n].numel() for n in left) > 0.5 * sum(t.numel() for t in own.values()):
        raise SourceError(
            f"{file} has {len(fitting)} of the {len(own)} tensors of {type(network).__name__}",
            remedy="give the weights of the same model",
        )
    network.load_state_dict(fitting, strict=False)
    return left


def freeze_all_but(network: nn.Module, layers: list[str]) -> None:
    """Train only these tensors: the new last layer of a pretrained model."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad = name in layers


def import_torchvision() -> Any:
    """``torchvision.models``, also beside a torch without torchvision's compiled operators.

    Raises:
        BackendMissingError: It is not installed, or does not fit torch.
    """
    global _operators  # defined once per process
    try:
        return import_module("torchvision.models")
    except ModuleNotFoundError as e:
        raise BackendMissingError(
            f"vision models come with torchvision, and {e.name!r} is not installed", remedy=_REMEDY
        ) from e
    except RuntimeError as e:  # a wheel built for another torch: its operators are unknown
        if _operators is not None or "torchvision::nms" not in str(e):
            raise _unfit(e) from e
    _operators = cast("Any", torch.library.Library)("torchvision", "DEF")  # untyped upstream
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("nms", "qnms"):  # of detection; classification never calls them
        _operators.define(f"{name}{signature}")
    _forget_half_imported()
    try:
        return import_module("torchvision.models")
    except (RuntimeError, ImportError) as e:
        raise _unfit(e) from e


def _forget_half_imported() -> None:
    import sys

    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]


def _unfit(error: Exception) -> BackendMissingError:
    return BackendMissingError(
        f"torchvision does not fit torch {torch.__version__}: {first_line(error)}",
        remedy=_REMEDY,
    )


def _read(file: Path) -> Mapping[str, Tensor]:
    if not file.is_file():
        raise MissingFileError(f"no such file: {file}", remedy="check the path of --weights")
    try:
        if file.suffix == ".safetensors":
            import safetensors.torch

            return safetensors.torch.load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as e:  # zip, pickle and safetensors have a dozen of them
        # of a pickle torch advises weights_only=False, which runs the code in it
        pickled = "it is no plain state_dict, and nothing else is unpickled"
        why = pickled if isinstance(e, UnpicklingError) else first_line(e)
        raise FormatError(
            f"{file} holds no weights: {why}",
            remedy="give a .safetensors file, or a state_dict saved with torch.save",
        ) from e
    if not isinstance(found, Mapping) or not all(isinstance(t, Tensor) for t in found.values()):
        raise FormatError(f"{file} is no state_dict", remedy="save module.state_dict()")
    return found
