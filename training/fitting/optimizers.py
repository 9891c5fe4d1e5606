"""Optimizers by name: every class of ``torch.optim``, or one of the user's own."""

import contextlib
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import nn
from torch.optim import Optimizer

from edgeport.runtimes.errors import UsageError

from .history import Option, Settings

_ODD: Final = (TypeError, ValueError, IndexError, AssertionError)
"""What optimizers of torch raise for options that they cannot use."""


def optimizer_names() -> dict[str, type[Optimizer]]:
    """Classes of ``torch.optim`` by name."""
    return {
        name: found
        for name, found in vars(torch.optim).items()
        if inspect.isclass(found) and issubclass(found, Optimizer) and found is not Optimizer
    }


def find_optimizer(name: str) -> type[Optimizer]:
    """A class by its name, in any case, or by its place: ``package.file:Class``.

    Raises:
        UsageError: There is none.
    """
    if ":" in name:
        return _own(name)
    known = optimizer_names()
    for known_name, found in known.items():
        if known_name.lower() == name.lower():
            return found
    raise UsageError(
        f"torch.optim has no optimizer {name!r}",
        remedy=f"use one of {', '.join(sorted(known))}, or your own as package.file:Class",
    )


def make_optimizer(module: nn.Module, settings: Settings) -> Optimizer:
    """The optimizer that was asked for, over all parameters that are trained.

    A ``weight_decay``, asked for or the optimizer's default, is of weights alone, as an L2 penalty
    is: a bias only moves the outputs, and the scale of a normalisation is no size of what was
    learned.

    Raises:
        UsageError: It does not exist, or does not take these options or parameters.
    """
    kind = find_optimizer(settings.optimizer)
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError(
            f"{type(module).__name__} has no parameter to train",
            remedy="leave some with requires_grad=True",
        )
    if kind is torch.optim.SparseAdam and not any(
        getattr(layer, "sparse", False) for layer in module.modules()
    ):
        raise UsageError(
            f"SparseAdam takes sparse gradients alone, and {type(module).__name__} has none",
            remedy="use Adam",
        )
    _check_options(kind, settings.options)
    options = {
        "lr": settings.learning_rate,
        **_faster(kind, parameters, settings.options),
        **settings.options,
    }
    groups = _groups(parameters, settings.options.get("weight_decay", _usual_decay(kind)))
    with _refusing(kind, parameters, (*_ODD, RuntimeError)):
        return kind(groups, **options)  # type: ignore[arg-type]  # checked by the class itself


def make_step(optimizer: Optimizer) -> None:
    """Make a step, whose gradients are there.

    Raises:
        UsageError: The optimizer took options that it fails with: a number too many, say.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    with _refusing(type(optimizer), parameters, _ODD):  # a RuntimeError is of memory, or of a GPU
        optimizer.step()


@contextlib.contextmanager
def _refusing(
    kind: type[Optimizer],
    parameters: Iterable[nn.Parameter],
    errors: tuple[type[Exception], ...],
) -> Iterator[None]:
    try:
        yield
    except errors as e:
        raise UsageError(
            f"{kind.__name__} refuses these options or parameters: {e}",
            remedy=_refused(kind, parameters),
        ) from e


def _groups(
    parameters: Sequence[nn.Parameter], decay: Option
) -> Sequence[nn.Parameter] | list[dict[str, Any]]:
    """One group; or two, where there is a decay and some parameters are no weights."""
    weights = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    if not decay or not weights or not others:
        return parameters
    groups: list[dict[str, Any]] = [{"params": weights}, {"params": others, "weight_decay": 0.0}]
    return groups


def _usual_decay(kind: type[Optimizer]) -> Option:
    """The decay of an optimizer that is asked for none; 0 if it knows no such thing."""
    found = inspect.signature(kind).parameters.get("weight_decay")
    return 0.0 if found is None or found.default is found.empty else found.default


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether its step evaluates the cost again, as that of LBFGS."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is closure.empty


def _is_of_torch(kind: type[Optimizer]) -> bool:
    return kind.__module__.startswith("torch.")


def _faster(
    kind: type[Optimizer], parameters: Sequence[nn.Parameter], asked: Mapping[str, Option]
) -> dict[str, bool]:
    """One kernel for all parameters where torch has it, unless the caller says otherwise."""
    known = inspect.signature(kind).parameters
    fused = "fused" in known and "foreach" not in asked and _is_of_torch(kind)
    fitting = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    return {"fused": True} if fused and fitting else {}


def _own(place: str) -> type[Optimizer]:
    file, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(file), name)
    except (ImportError, AttributeError, ValueError) as e:
        raise UsageError(
            f"cannot import the optimizer {place!r}: {e}",
            remedy="write package.file:Class, and run edgeport where Python finds that package",
        ) from e
    if not (inspect.isclass(found) and issubclass(found, Optimizer)):
        raise UsageError(
            f"{place!r} is no subclass of torch.optim.Optimizer", remedy="name such a class"
        )
    return found


def _check_options(kind: type[Optimizer], options: Mapping[str, Option]) -> None:
    taken = inspect.signature(kind).parameters
    if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        return
    for name, value in options.items():
        if name not in taken or name in ("params", "lr"):
            known = [n for n in taken if n not in ("params", "lr", "self")]
            raise UsageError(
                f"{kind.__name__} has no option {name!r}", remedy=f"it takes {', '.join(known)}"
            )
        if name == "differentiable" and value is True and _is_of_torch(kind):
            raise UsageError(
                f"differentiable of {kind.__name__} is for a step that is differentiated, which no "
                "training here does",
                remedy="leave it out",
            )
        if name == "line_search_fn" and value != "strong_wolfe" and _is_of_torch(kind):
            raise UsageError(
                f"{kind.__name__} has no line search {value!r}", remedy="give strong_wolfe"
            )
        if name == "history_size" and value not in range(1, 2**31) and _is_of_torch(kind):
            raise UsageError(
                f"{kind.__name__} has no history of {value!r} steps", remedy="give 1 or more"
            )
        flag = isinstance(taken[name].default, bool)
        if flag is not isinstance(value, bool) and isinstance(taken[name].default, int | float):
            raise UsageError(
                f"{kind.__name__} has no {name} of {value!r}",
                remedy="give true or false" if flag else "give a number",
            )


def _refused(kind: type[Optimizer], parameters: Iterable[nn.Parameter]) -> str:
    if any(p.ndim != 2 for p in parameters) and kind.__name__ == "Muon":
        return "Muon trains matrices only: use another optimizer for modules that have biases"
    return f"see what torch.optim.{kind.__name__} takes"
