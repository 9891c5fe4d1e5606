"""A training that was stopped goes on bit for bit: one safetensors file holds all of its state."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from edgeport.runtimes import files
from edgeport.runtimes.errors import (
    EdgeportError,
    FormatError,
    StorageError,
    UsageError,
    first_line,
)
from edgeport.training.data import Origin
from edgeport.training.device import device_name, device_of

from .history import ENDLESS, Epoch, Norms, Settings

VERSION: Final = 4

State = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is, besides the module's and the optimizer's state.

    Attributes:
        epochs, norms, warnings: As in the history.
        best: State of the module after its best epoch; empty without patience.
    """

    epochs: tuple[Epoch, ...] = ()
    norms: tuple[Norms, ...] = ()
    warnings: tuple[str, ...] = ()
    best: State | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """A copy of what the next epoch depends on, which goes on changing: also the random state.

    Attributes:
        optimizer: Its state as JSON, which names tensors.
        tensors: These, the module's and the random generators'; on the CPU.
        device: Where the training is.
    """

    optimizer: Any
    tensors: State
    device: torch.device


def moment(module: nn.Module, optimizer: Optimizer) -> Moment:
    """Take it."""
    tensors = {f"module.{k}": v for k, v in module.state_dict().items()}
    tensors["random"] = torch.get_rng_state()
    device = device_of(module)
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    packed = _pack(optimizer.state_dict(), tensors)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return Moment(packed, tensors, device)


def write(
    path: Path,
    of: Moment,
    made_with: Mapping[str, Any],
    settings: Settings,
    origin: Origin,
    progress: Progress,
) -> None:
    """Write everything that the next epoch depends on.

    Raises:
        StorageError: The disk is full or the place is not writable; an old file is untouched.
    """
    tensors = {**of.tensors, **{f"best.{k}": v for k, v in (progress.best or {}).items()}}
    told = {
        "checkpoint_version": VERSION,
        "made_with": dict(made_with),
        "settings": asdict(settings),
        "data": _of_data(origin),
        "device": device_name(of.device),
        "epochs": [asdict(epoch) for epoch in progress.epochs],
        "norms": [asdict(norms) for norms in progress.norms],
        "warnings": progress.warnings,
        "optimizer": of.optimizer,
    }
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with files.parents(path):
        files.write(path, safetensors.torch.save(tensors, {"edgeport": json.dumps(told)}))


def read(
    path: Path,
    module: nn.Module,
    optimizer: Optimizer,
    made_with: Mapping[str, Any],
    settings: Settings,
    origin: Origin,
) -> Progress:
    """Put the state of a checkpoint into a module, an optimizer and the random generator.

    Raises:
        UsageError: It is of a training with other settings, on other data, on another device, or
            of another module.
        FormatError: It is not a checkpoint.
        StorageError: It cannot be read.
    """
    device = device_of(module)
    with _damage_told(path):
        told, tensors = _opened(path)
        _check(path, *_compared(path, told, settings))
        _check_data(path, told["data"], origin)
        _check(path, told["made_with"], made_with)
        _check_device(path, told["device"], device)
        progress, state = _progress(told, tensors), _unpack(told["optimizer"], tensors)
        torch.set_rng_state(tensors["random"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], device)
    try:
        module.load_state_dict(_named(tensors, "module."))
        optimizer.load_state_dict(state)
    except torch.OutOfMemoryError:  # of a GPU, which holds what the optimizer keeps
        raise
    except (RuntimeError, ValueError) as e:
        raise UsageError(
            f"{path} is the checkpoint of another module: {first_line(e)}",
            remedy="train the same module, or remove the file to start again",
        ) from e
    return progress


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except EdgeportError:  # ours, and ValueErrors or OSErrors too
        raise
    except OSError as e:  # a folder, no permission
        raise StorageError(
            f"cannot read the checkpoint {path}: {e}", remedy="name another file with --checkpoint"
        ) from e
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError, AttributeError,
            RuntimeError) as e:  # fmt: skip  # of a file that is damaged
        raise FormatError(
            f"{path} is not a checkpoint of edgeport: {e}",
            remedy="name another file; or, if it may go, remove it and start again",
        ) from e


def _opened(path: Path) -> tuple[Mapping[str, Any], State]:
    """What it tells, and its tensors."""
    with safe_open(str(path), "pt") as file:
        told = json.loads((file.metadata() or {})["edgeport"])
        # cloned, so that memory is aligned as before: sums of other alignment differ
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    if told["checkpoint_version"] != VERSION:
        raise FormatError(
            f"{path} is a checkpoint of version {told['checkpoint_version']}, this edgeport "
            f"reads {VERSION}",
            remedy="start again without it",
        )
    return told, tensors


def _progress(told: Mapping[str, Any], tensors: State) -> Progress:
    return Progress(
        tuple(Epoch(**epoch) for epoch in told["epochs"]),
        tuple(Norms(**norms) for norms in told["norms"]),
        tuple(told["warnings"]),
        _named(tensors, "best.") or None,
    )


def _named(tensors: State, prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _compared(
    path: Path, told: Mapping[str, Any], settings: Settings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of both; without the epochs, where no step hangs on how many are to come."""
    found, asked, done = {**told["settings"]}, asdict(settings), len(told["epochs"])
    if settings.epochs < done:
        raise UsageError(
            f"{path} has {done} epochs behind it, {settings.epochs} are asked for",
            remedy=f"ask for {done} or more, or remove the file to start again",
        )
    if settings.schedule in ENDLESS:
        del found["epochs"], asked["epochs"]
    elif found["epochs"] != settings.epochs and found["schedule"] == settings.schedule:
        raise UsageError(
            f"{path} is of a training with epochs {found['epochs']}, this one has "
            f"{settings.epochs}, and a {settings.schedule} schedule reaches its end with the last",
            remedy=f"use the same settings, or remove the file to start again; with --schedule "
            f"{' or '.join(ENDLESS)} more epochs can follow",
        )
    return found, asked


def _check(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(dict(asked)))
    for name, value in wanted.items():
        if found.get(name) != value:
            raise UsageError(
                f"{path} is of a training with {name} {found.get(name)}, this one has {value}",
                remedy="use the same settings, or remove the file to start again",
            )


def _check_data(path: Path, found: object, origin: Origin) -> None:
    if found != _of_data(origin):
        raise UsageError(
            f"{path} is of a training on other data, or on another part of {origin.name}",
            remedy="give the same data, columns and --held-out, or another --checkpoint",
        )


def _check_device(path: Path, found: object, device: torch.device) -> None:
    if found != device_name(device):
        raise UsageError(
            f"{path} is of a training on {found}, and {device_name(device)} rounds in another "
            "way: it would not go on bit for bit",
            remedy="train where it began (--device), or remove the file to start again",
        )


def _of_data(origin: Origin) -> dict[str, Any]:
    """What makes the examples of a step the same; as raw data, they are so on every machine."""
    return {"sha256": origin.sha256, "split": asdict(origin.split)}


def _pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A tree as JSON; tensors are moved out, and named by number."""
    if isinstance(value, Tensor):
        name = f"state.{len(tensors)}"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[key, _pack(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_pack(item, tensors) for item in value]}
    return value


def _unpack(value: Any, tensors: State) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
