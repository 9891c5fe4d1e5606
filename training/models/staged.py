"""A module in stages: what is fixed before the part that is trained is part of the artefact.

Fixed stages are run once over the data, not in every epoch.
"""

import inspect
import os
import tempfile
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import SourceError
from edgeport.training.data import Array, DataSet, Labelled

_ROWS = 256  # bounds memory


class Staged(nn.Module):
    """``finish(core(prepare(**inputs)))``; only ``core`` is trained.

    Args:
        prepare: Raw inputs by name -> features (batch, ...).
        core: Features, its only argument -> outputs.
        finish: Outputs -> outputs, in the unit of the labels; ``None`` for nothing.
    """

    def __init__(
        self, prepare: nn.Module, core: nn.Module, finish: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.prepare = prepare
        self.core = core
        self.finish = finish or nn.Identity()

    @property
    def input_names(self) -> list[str]:
        """What ``prepare`` takes."""
        names: list[str] = self.prepare.names  # type: ignore[assignment]  # every stage has them
        return names

    @property
    def free_axes(self) -> dict[str, dict[int, str]]:
        """Input -> axis -> name, of the axes that are free besides the first."""
        free: dict[str, dict[int, str]] = getattr(self.prepare, "free_axes", {})
        return free

    def forward(self, **inputs: Tensor) -> Tensor:
        """Predict from raw inputs.

        Args:
            inputs: What ``prepare`` takes, by name.

        Returns:
            Logits: (batch, classes), or values: (batch,).
        """
        found: Tensor = self.finish(self.core(self.prepare(**inputs)))
        return found


class Affine(nn.Module):
    """``x * scale + offset``: from standardised labels to the user's unit."""

    scale: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def fit(self, labels: Tensor) -> None:
        """Take the deviation and mean of labels."""
        self.scale.copy_(labels.double().std(correction=0))
        self.offset.copy_(labels.double().mean())

    def forward(self, x: Tensor) -> Tensor:
        """Undo the standardisation: any shape."""
        return x * self.scale + self.offset

    def standardised(self, labels: Tensor) -> Tensor:
        """Labels as the core is to predict them."""
        return (labels - self.offset) / self.scale


def core_data(module: Staged, data: DataSet, dtype: torch.dtype = torch.float32) -> DataSet:
    """The data as the core sees them: features, and labels before ``finish``.

    Args:
        module: Whose prepare stage is fitted already.
        data: Raw inputs.
        dtype: Of floating features and labels.

    Raises:
        SourceError: They are more than half of this machine's memory, and its disk has no room.
    """
    return DataSet(
        data.origin, _seen(module, data.train, dtype), _seen(module, data.held_out, dtype)
    )


@torch.no_grad()
def _seen(module: Staged, examples: Labelled, dtype: torch.dtype) -> Labelled:
    labels = torch.tensor(examples.labels)
    features = _prepared(module.prepare, examples, dtype)
    if isinstance(module.finish, Affine):
        labels = module.finish.standardised(labels.to(dtype))
    found = labels.to(dtype) if labels.is_floating_point() else labels
    name = next(iter(inspect.signature(module.core.forward).parameters))
    return Labelled({name: features}, np.asarray(found.numpy()))


def _prepared(prepare: nn.Module, examples: Labelled, dtype: torch.dtype) -> Array:
    """What a stage makes of all examples, in room that is taken once."""
    whole, start = np.empty(0), 0
    for rows in _rows(examples):
        part = prepare(**rows).to(dtype).numpy()
        if start == 0:
            whole = _room(len(examples), part[0])
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def _room(examples: int, one: Array) -> Array:
    """Memory; where it would take half of it, a file without a name, gone with this process."""
    shape, needed = (examples, *one.shape), examples * one.nbytes
    if needed <= _memory_bytes() / 2:
        return np.empty(shape, one.dtype)
    try:
        with tempfile.TemporaryFile() as file:
            os.posix_fallocate(file.fileno(), 0, needed)  # a full disk ends a process that writes
            return np.memmap(file, one.dtype, "w+", shape=shape)
    except OSError as e:
        raise SourceError(
            f"{examples:,} examples of {one.nbytes:,} bytes, as the network takes them, need "
            f"{needed / 1e9:.1f} GB: more than half of this machine's memory, and there is no room "
            f"in {tempfile.gettempdir()}: {e.strerror or e}",
            remedy="name a larger place with TMPDIR, make them smaller (vision: --resize, --crop), "
            "or take fewer",
        ) from e


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _rows(examples: Labelled) -> Iterator[dict[str, Tensor]]:
    """Some rows at a time; one at a time where they have several shapes."""
    several = any(array.dtype == object for array in examples.inputs.values())
    size = 1 if several else _ROWS
    for start in range(0, len(examples), size):
        cut = {name: array[start : start + size] for name, array in examples.inputs.items()}
        yield {
            name: torch.tensor(np.asarray(array[0]))[None]
            if array.dtype == object
            else torch.tensor(array)
            for name, array in cut.items()
        }


@torch.no_grad()
def predict(module: nn.Module, examples: Labelled) -> Tensor:
    """What a module returns for raw examples, in eval mode: (n, ...) on the CPU."""
    module.eval()
    return torch.cat([module(**rows) for rows in _rows(examples)])
