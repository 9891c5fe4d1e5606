"""Look into one step: norms per layer, and which layer went wrong first.

Hooks are on a module only while it is looked at: a training pays for one step in a hundred.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from edgeport.training.device import device_of

from .evaluation import parts
from .history import Norms

VANISHING: Final = 1e-6
"""A layer whose gradient per weight is this small beside that of the layer with the largest one."""

EXPLODING: Final = 1e3
"""A layer whose gradient is this many times as long as its weights."""

Found = Callable[[str, Tensor], None]


@contextlib.contextmanager
def watching(module: nn.Module, found: Found) -> Iterator[None]:
    """Call ``found`` with the name and the first output tensor of each layer that forward runs.

    A layer is a module without modules in it.
    """
    handles = []
    try:
        for name, layer in module.named_modules():
            if not any(True for _ in layer.children()):
                handles.append(layer.register_forward_hook(_reporter(name or "module", found)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _reporter(name: str, found: Found) -> Callable[[nn.Module, Any, Any], None]:
    def report(layer: nn.Module, inputs: Any, output: Any) -> None:
        tensor = _first_tensor(output)
        if tensor is not None:
            found(name, tensor)

    return report


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, Sequence) and not isinstance(output, str):
        return next((t for part in output if (t := _first_tensor(part)) is not None), None)
    return None


def root_mean_square(tensor: Tensor) -> float:
    """Of all elements; 0 if there is none."""
    return float(tensor.detach().float().square().mean().sqrt()) if tensor.numel() else 0.0


def gradient_norms(module: nn.Module) -> dict[str, float]:
    """Layer -> Euclidean norm of the gradient of its own parameters, those that have one."""
    norms: dict[str, float] = {}
    for name, layer in module.named_modules():
        squares = [
            float(p.grad.detach().double().square().sum())
            for p in layer.parameters(recurse=False)
            if p.grad is not None
        ]
        if squares:
            norms[name or "module"] = math.sqrt(sum(squares))
    return norms


def judge(module: nn.Module, norms: Norms) -> list[str]:
    """Named warnings about a step.

    ``vanishing-gradients``: the gradient per weight of the first layers, which lie farthest from
    the loss, is below ``VANISHING`` of the largest layer's (Glorot & Bengio 2010).
    ``exploding-gradients``: a layer's gradient is not finite, or over ``EXPLODING`` times as long
    as its weights (Pascanu et al. 2013).
    """
    layers = dict(module.named_modules())
    layers["module"] = module if not list(module.children()) else layers.get("module", module)
    sizes, weights = {}, {}
    for name in norms.gradient:
        own = [p.detach() for p in layers[name].parameters(recurse=False)]
        sizes[name] = sum(p.numel() for p in own)
        weights[name] = math.sqrt(sum(float(p.double().square().sum()) for p in own))
    per_weight = {n: g / math.sqrt(sizes[n]) for n, g in norms.gradient.items() if sizes[n]}
    largest = max(per_weight.values(), default=0.0)
    told = []
    for name in per_weight:
        if largest > 0 and per_weight[name] < VANISHING * largest:
            told.append(
                f"vanishing-gradients: that of {name} is {per_weight[name] / largest:.1e} of the "
                f"largest layer's at epoch {norms.epoch}; try --init kaiming, --norm batch, or "
                "another activation"
            )
            break
    for name, length in norms.gradient.items():
        if not math.isfinite(length) or length > EXPLODING * max(weights[name], 1.0):
            told.append(
                f"exploding-gradients: that of {name} has norm {length:.1e}, its weights "
                f"{weights[name]:.1e}, at epoch {norms.epoch}; try --clip-norm 1, a smaller --lr, "
                "or scaled labels"
            )
            break
    return told


@torch.no_grad()
def first_bad(module: nn.Module, inputs: Mapping[str, Tensor]) -> str:
    """Say where a step stopped being finite: an input, a weight, or what a layer returned."""
    for name, tensor in inputs.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            row = int(torch.argwhere(~torch.isfinite(tensor))[0][0])
            return f"input {name!r} is not finite in row {row} of the batch"
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"the weights of layer {name.rpartition('.')[0] or 'module'} are not finite"
    bad: list[str] = []

    def found(name: str, output: Tensor) -> None:
        if output.is_floating_point() and not torch.isfinite(output).all():
            bad.append(name)

    with watching(module, found), contextlib.suppress(Exception):  # the first error is told
        for rows in parts(inputs, device_of(module)):
            module(**rows)
    return f"the output of layer {bad[0]} is not finite" if bad else "the loss itself"
