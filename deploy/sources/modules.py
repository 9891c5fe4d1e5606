"""Make a user's module ready: their own code inside wrappers, on the CPU, in eval mode, a copy."""

import copy
import copyreg
import inspect
import io
import itertools
import re
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, Final, TypeGuard
from unittest import mock

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torch.utils import _pytree as pytree

from edgeport.deploy.kinds import kind_of
from edgeport.runtimes import SourceError

from .closures import Closures

_CALLED: Final = ("generate", "predict", "encode", "sample")
"""What is called in place of a forward, the likeliest first."""


def prepared(module: nn.Module, *, keep_training_mode: bool) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy that can be compiled, and what was changed in it, in sentences for the user.

    Raises:
        SourceError: It is no module, has no values, or cannot be copied.
    """
    check_module(module)
    notes = list(_changes(module, keep_training_mode))
    module = _without_wrappers(copied(unwrapped(module))).cpu()
    notes += _attributes_on_cpu(module)
    return module if keep_training_mode else module.eval(), tuple(notes)


def check_module(module: object) -> None:
    """Refuse what is no module, or has shapes but no values.

    Raises:
        SourceError: It is such a thing.
    """
    if not isinstance(module, nn.Module):
        raise SourceError(
            f"the model is of type {type(module).__name__}, expected a torch.nn.Module",
            remedy=weights_remedy(module)
            or "pass the module itself, or wrap the function in a torch.nn.Module",
        )
    plain = (
        (f"{path}.{name}".lstrip("."), value)
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if isinstance(value, torch.Tensor)
    )
    state = itertools.chain(module.named_parameters(), module.named_buffers(), plain)
    empty = next((name for name, tensor in state if tensor.is_meta), None)
    if empty is not None:
        raise SourceError(
            f"{kind_of(module)} has no values: {empty!r} is on the device 'meta'",
            remedy="load its weights before it is exported",
        )
    _check_forward(module)


def weights_remedy(found: object) -> str | None:
    """What to do with weights without the code that computes with them: a state dict."""
    if not isinstance(found, Mapping):
        return None
    return (
        "make the module, and load the weights into it: module.load_state_dict(weights); "
        "what is exported is the module"
    )


def _check_forward(module: nn.Module) -> None:
    """Refuse a module that cannot be called: one that has `generate` in its place, a container."""
    kind = type(unwrapped(module))
    own = getattr(unwrapped(module).forward, "__func__", None)
    if own is not nn.Module.forward or kind.__call__ is not nn.Module.__call__:
        return
    classes = (each for each in kind.__mro__ if not each.__module__.startswith("torch."))
    names = dict.fromkeys(
        name
        for each in classes
        for name, value in vars(each).items()
        if inspect.isfunction(value) and not name.startswith("_")
    )
    called = next((name for name in _CALLED if name in names), next(iter(names), None))
    what = f"calls it: return self.model.{called}(x)" if called else "says what its parts do"
    raise SourceError(
        f"{kind_of(module)} has no forward" + (f"; it has {', '.join([*names][:5])}" * bool(names)),
        remedy=f"export a module around it, whose forward {what}",
    )


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's own module inside DataParallel, DistributedDataParallel or torch.compile."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def copied(module: nn.Module) -> nn.Module:
    """A deep copy, also of what ``copy.deepcopy`` refuses: attributes computed from parameters.

    ``torch.nn.utils.weight_norm`` leaves such a tensor; it is computed anew in every call. Locks,
    files and Python modules are shared with the copy; hooks and lambdas that close over the module
    close over the copy then.

    Raises:
        SourceError: Something in it cannot be copied.
    """
    closures = Closures(module)
    known = closures.known | {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    known |= {id(tensor): _copy_of_kind(tensor) for tensor in _tensors_of_own_kind(module)}
    known |= {id(tensor): _copy_of_kind(tensor) for tensor in _tensors_of_own_kind(module)}
    known |= {
        id(buffer): _LAZY_BUFFER(device=buffer.device, dtype=buffer.dtype)
        for buffer in module.buffers()
        if is_lazy(buffer)
    }
    # torch clones the weights of scripted code: without gradients they stay leaves
    with torch.no_grad(), mock.patch.dict(copyreg.dispatch_table, _REDUCED):
        try:
            found = copy.deepcopy(module, known)
        except Exception as e:  # whatever __deepcopy__ of an attribute raises
            raise SourceError(
                f"{kind_of(module)} cannot be copied: {type(e).__name__}: {e}",
                remedy="keep connections, generators and what else copy.deepcopy refuses out of "
                "the module",
            ) from e
    closures.fill(known)
    return found


def _tensors_of_own_kind(module: nn.Module) -> Iterator[torch.Tensor]:
    """Those of a class that adds methods to ``torch.Tensor``, which torch (2.13) does not copy."""
    for part in module.modules():
        for held in (part._parameters, part._buffers, vars(part)):
            yield from (value for value in held.values() if _is_of_own_kind(value))


def _is_of_own_kind(value: object) -> TypeGuard[torch.Tensor]:
    kind: Any = type(value)
    return (
        isinstance(value, torch.Tensor)
        and not (kind is torch.Tensor or is_lazy(value))
        and all(getattr(kind, name) is getattr(torch.Tensor, name) for name in _OF_A_COPY)
    )


def _copy_of_kind(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach().as_subclass(torch.Tensor).clone()
    made = plain.as_subclass(type(tensor)).requires_grad_(tensor.requires_grad)
    vars(made).update(vars(tensor))  # among it what says that it is a parameter
    return made


_OF_A_COPY: Final = ("__deepcopy__", "__torch_dispatch__")

_LAZY_BUFFER: Final[Any] = UninitializedBuffer  # its types know no arguments

_REDUCED: Final[dict[type, Any]] = {
    MappingProxyType: lambda proxy: (MappingProxyType, (dict(proxy),))
} | dict.fromkeys(
    (
        *(type(threading.Lock()), type(threading.RLock()), ModuleType, torch.jit.ScriptFunction),
        *(io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO),
    ),
    str,  # to a copy, a text in place of a recipe says: take it as it is
)


def is_uninitialised(module: nn.Module) -> bool:
    """Whether it has parameters whose shapes its first call decides."""
    return any(map(is_lazy, itertools.chain(module.parameters(), module.buffers())))


def _without_wrappers(module: nn.Module) -> nn.Module:
    """Replace compiled and parallel children by the user's own, in place."""
    for part in list(module.modules()):
        vars(part).pop("_compiled_call_impl", None)  # what Module.compile() sets
        for name, child in list(part.named_children()):
            own = unwrapped(child)
            if own is not child:
                setattr(part, name, own)
    return module


def _attributes_on_cpu(module: nn.Module) -> list[str]:
    """Let tensors and devices that are plain attributes follow the weights to the CPU, in place."""
    changed = []
    moved: dict[int, tuple[Any, Any]] = {}  # what two attributes share they share then
    for path, part in module.named_modules():
        for name, value in list(vars(part).items()):
            if name in _HELD_BY_TORCH or not _holds_elsewhere(value):
                continue
            moved.setdefault(id(value), (value, pytree.tree_map(_on_cpu, value)))
            vars(part)[name] = moved[id(value)][1]
            changed.append(f"{path}.{name}".lstrip("."))
    if not changed:
        return []
    others = f", and {len(changed) - 3} more" * (len(changed) > 3)
    return [f"attributes of another device are on the CPU: {', '.join(changed[:3])}{others}"]


_HELD_BY_TORCH: Final = ("_parameters", "_buffers", "_modules")


def _holds_elsewhere(value: object) -> bool:
    try:
        return any(map(_is_elsewhere, pytree.tree_leaves(value)))
    except RecursionError:  # it leads to itself
        return False


def _is_elsewhere(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"(cuda|xpu|mps)(:\d+)?", value) is not None
    device = getattr(value, "device", None) if isinstance(value, torch.Tensor) else value
    return isinstance(device, torch.device) and device.type not in ("cpu", "meta")


def _on_cpu(value: Any) -> Any:
    if not _is_elsewhere(value):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    return "cpu" if isinstance(value, str) else torch.device("cpu")


def _changes(module: nn.Module, keep_training_mode: bool) -> Iterator[str]:
    training = [name for name, part in module.named_modules() if getattr(part, "training", False)]
    if training and not keep_training_mode:
        what = "the module was" if "" in training else f"{', '.join(training[:3])} was"
        yield f"{what} in training mode; what is exported is its eval mode"
    if keep_training_mode and training:
        yield "the module is exported in training mode, as asked"
    if any(parameter.device.type != "cpu" for parameter in module.parameters()):
        yield "the module was copied to the CPU"
    if is_uninitialised(module):
        yield "lazy parameters were initialised by one run: their values are random"
    if broken := [name for name, weight in module.named_parameters() if _has_nan(weight)]:
        others = f", and {len(broken) - 3} more" * (len(broken) > 3)
        yield f"NaN is among the weights of {', '.join(broken[:3])}{others}: what they reach is NaN"


def _has_nan(weight: nn.Parameter) -> bool:
    is_plain = weight.is_floating_point() and weight.layout is torch.strided
    return is_plain and not is_lazy(weight) and bool(weight.isnan().any())
