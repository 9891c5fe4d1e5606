"""A module in stages: what is fixed before the part that is trained is part of the artefact.

Fixed stages are run once over the data, not in every epoch.
"""

import errno
import inspect
import os
import shutil
import tempfile
from collections.abc import Iterator
from itertools import chain
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from edgeport.runtimes.errors import SourceError
from edgeport.runtimes.safety.private_copy import free_memory_bytes
from edgeport.training.data import Array, DataSet, Labelled

_ROWS: Final = 256  # at most so many rows at a time, and
_ROWS_BYTES: Final = 2**24  # bytes of them: the layers of a network make a hundred times as many


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

    @property
    def categories(self) -> dict[str, list[str]]:
        """Input that is text -> the categories that it is compared with."""
        found: dict[str, list[str]] = getattr(self.prepare, "categories", {})
        return found

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
        SourceError: They are more than a quarter of the free memory, and the disk has no room.
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
    """What a stage makes of all examples: in memory, of which training takes as much once more.

    Where that would be half of what is free, it is a file without a name, gone with this process.
    """
    parts = (prepare(**rows).to(dtype).numpy() for rows in batches(examples))
    first = next(parts)
    shape, needed = (len(examples), *first.shape[1:]), len(examples) * first[0].nbytes
    if needed <= _memory_bytes() / 4:
        whole, start = np.empty(shape, first.dtype), 0
        for part in chain([first], parts):
            whole[start : start + len(part)] = part
            start += len(part)
        return whole
    try:
        if needed > shutil.disk_usage(tempfile.gettempdir()).free:  # told now, not in an hour
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with tempfile.TemporaryFile() as file:
            for part in chain([first], parts):
                file.write(np.ascontiguousarray(part).data)
            return np.memmap(file, first.dtype, "r+", shape=shape)
    except OSError as e:
        raise SourceError(
            f"{len(examples):,} examples of {first[0].nbytes:,} bytes, as the network takes them, "
            f"need {needed / 1e9:.1f} GB: more than a quarter of the free memory, and there is no "
            f"room in {tempfile.gettempdir()}: {e.strerror or e}",
            remedy="name a larger place with TMPDIR, make them smaller (vision: --resize, --crop), "
            "or take fewer",
        ) from e


def _memory_bytes() -> int:
    """What is free; where the machine does not say, all that it has."""
    return free_memory_bytes() or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def batches(examples: Labelled) -> Iterator[dict[str, Tensor]]:
    """Inputs, some rows at a time; one at a time where they may have several shapes."""
    arrays = examples.inputs.values()
    several = any(array.dtype == object for array in arrays)
    fitting = _ROWS_BYTES // max(1, sum(array[0].nbytes for array in arrays if not several))
    size = 1 if several else min(_ROWS, max(1, fitting))
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
    return torch.cat([module(**rows) for rows in batches(examples)])
