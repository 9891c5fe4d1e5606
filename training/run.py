"""A run: a trained module with its data's held-out part, in a folder that is whole or not there.

Weights are safetensors, and the class of a module comes from the table below, never from a name in
the file: opening a stranger's run runs no code of theirs.
"""

import contextlib
import importlib.metadata
import inspect
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor, nn

from edgeport import __version__
from edgeport.runtimes import files
from edgeport.runtimes.errors import (
    EdgeportError,
    FormatError,
    MissingFileError,
    SourceError,
    first_line,
)
from edgeport.runtimes.signature import Range
from edgeport.training.data import Array, Labelled, Origin, ragged
from edgeport.training.fitting import History
from edgeport.training.models import MODELS

from .record import Record

RECORD: Final = "run.json"
WEIGHTS: Final = "weights.safetensors"
HELD_OUT: Final = "held_out.safetensors"


def installed_versions() -> dict[str, str]:
    """Versions of what a training runs on."""
    versions = {"python": platform.python_version(), "edgeport": __version__}
    versions["torch"] = str(torch.__version__)  # its package does not say for which CUDA
    for name in ("numpy", "scikit-learn"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


@dataclass(frozen=True, slots=True)
class Run:
    """A trained module and where it came from.

    Attributes:
        model: A key of ``MODELS``.
        hyperparameters: What the module was made with: plain JSON.
        module: In eval mode. It returns logits (batch, classes), values (batch,), or
            vectors (batch, dimensions).
        origin: Which data it was trained on.
        held_out: Examples that it has not seen, raw. An input of images of several sizes is an
            array of arrays.
        history: The training; ``history.completed`` is false if it was interrupted.
        scores: What was measured on held-out examples at the end, by name.
        versions: Of what it was trained on.
    """

    model: str
    hyperparameters: Mapping[str, Any]
    module: nn.Module
    origin: Origin
    held_out: Labelled
    history: History
    scores: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=installed_versions)

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    @property
    def output(self) -> str:
        """Name of what the module returns: its own ``output_name`` if it has one."""
        own: str | None = getattr(self.module, "output_name", None)
        if own is not None:
            return own
        return "logits" if self.held_out.classification else "prediction"

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of the output, and of the categories of each input that has some."""
        known: Mapping[str, Sequence[str]] = getattr(self.module, "categories", {})
        return {
            name: tuple(names)
            for name, names in {**known, self.output: self.origin.classes}.items()
            if names
        }

    @property
    def samples(self) -> list[dict[str, Array]]:
        """Held-out inputs as the module takes them: all at once, or one by one if sizes differ."""
        inputs = self.held_out.inputs
        if not any(array.dtype == object for array in inputs.values()):
            return [dict(inputs)]
        return [
            {name: np.asarray(array[row])[None] for name, array in inputs.items()}
            for row in range(len(self.held_out))
        ]

    @property
    def shapes(self) -> dict[str, tuple[int | str, ...]]:
        """Input -> shape; a free size is a name: ``("batch", "height", "width", 3)``.

        A module says which axes are free besides the first in ``free_axes``.
        """
        free: Mapping[str, Mapping[int, str]] = getattr(self.module, "free_axes", {})
        shapes: dict[str, tuple[int | str, ...]] = {}
        for name, array in self.held_out.inputs.items():
            one = array[0].shape if array.dtype == object else array.shape[1:]
            sizes = [free.get(name, {}).get(axis, size) for axis, size in enumerate(one, 1)]
            shapes[name] = ("batch", *sizes)
        return shapes

    @property
    def ranges(self) -> dict[str, Range]:
        """Sizes of free axes, where a module says the smallest in ``least_sizes``.

        Such an axis is one of texts: nine of ten held-out ones are no longer than the usual size.
        """
        least: Mapping[str, int] = getattr(self.module, "least_sizes", {})
        ranges = {}
        for name, shape in self.shapes.items():
            for size in shape[1:]:
                if isinstance(size, str) and size in least:
                    lengths = (self.held_out.inputs[name] >= 0).sum(1)
                    usual = max(least[size], int(np.quantile(lengths, 0.9)))
                    ranges[size] = Range(least[size], opt=usual)
        return ranges


class _ProbeError(Exception):
    """Ends a block of ``new_folder`` so that nothing appears."""


def check_place(path: Path) -> None:
    """Find out before a training whether a run can be saved at ``path``.

    Raises:
        ExistingFileError: Something is there already.
        StorageError: The place is not writable.
    """
    with contextlib.suppress(_ProbeError), files.new_folder(path):
        raise _ProbeError


def save(run: Run, path: str | Path, extras: Mapping[str, str | bytes] | None = None) -> None:
    """Write a run to a new folder.

    Args:
        run: What was trained.
        path: The folder.
        extras: More files by name, for people: a report.

    Raises:
        ExistingFileError: Something is at ``path`` already.
        StorageError: The disk is full or the place is not writable.
    """
    record = Record(
        run.model, run.hyperparameters, run.origin, run.history, run.scores, run.versions
    )
    weights = {name: tensor.contiguous() for name, tensor in run.module.state_dict().items()}
    held_out = {**_apart(run.held_out.inputs), "labels": run.held_out.labels}
    held_out = {name: np.ascontiguousarray(array) for name, array in held_out.items()}
    with files.new_folder(Path(path)) as folder:
        files.write(folder / WEIGHTS, safetensors.torch.save(weights))
        files.write(folder / HELD_OUT, safetensors.numpy.save(held_out))
        for name, content in (extras or {}).items():
            files.write(folder / name, content)
        files.write(folder / RECORD, record.dumps())


def load(path: str | Path) -> Run:
    """Read a run; its module is in eval mode.

    Raises:
        MissingFileError: There is nothing at ``path``, or a file of the run is missing.
        FormatError: It is not a run, or a file of it was damaged or edited.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(
            f"no such run: {path}", remedy="check the path; edgeport train makes runs"
        )
    if not (path / RECORD).is_file():
        raise FormatError(
            f"{path} is not a run: it has no {RECORD}", remedy="name the folder of a run"
        )
    record = Record.loads((path / RECORD).read_bytes(), str(path / RECORD))
    module = _empty_module(record, path / RECORD)
    _load_weights(module, path / WEIGHTS)
    if any(buffer.is_meta for buffer in module.buffers()):  # what no file holds has to be computed
        module = MODELS[record.model](**record.hyperparameters)
        _load_weights(module, path / WEIGHTS)
    return Run(
        model=record.model,
        hyperparameters=record.hyperparameters,
        module=module.eval(),
        origin=record.origin,
        held_out=_load_held_out(module, path / HELD_OUT),
        history=record.history,
        scores=record.scores,
        versions=record.versions,
    )


def _empty_module(record: Record, file: Path) -> nn.Module:
    """Make the module without memory for its weights: an edited size can't exhaust the machine."""
    if record.model not in MODELS:
        raise _damaged(file, f"it names the model {record.model!r}, known are {', '.join(MODELS)}")
    try:
        with torch.device("meta"):
            return MODELS[record.model](**record.hyperparameters)
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError, IndexError) as e:
        problem = f"no {record.model} has these hyperparameters: {first_line(e)}"
        raise _damaged(file, problem) from e


def _load_weights(module: nn.Module, file: Path) -> None:
    try:
        weights = safetensors.torch.load(_read(file))
    except (safetensors.SafetensorError, ValueError, KeyError) as e:
        raise _damaged(file, f"it is not a safetensors file: {e}") from e
    wanted = module.state_dict()
    for name in sorted({*wanted, *weights}):
        found, expected = _shape(weights.get(name)), _shape(wanted.get(name))
        if found != expected:
            raise _damaged(file, f"{name} is {found}, the model needs {expected}")
    module.load_state_dict(weights, assign=True)  # assign: the module's own have no memory


def input_names(module: nn.Module) -> list[str]:
    """Names of what a module takes: its own ``input_names``, or forward's parameters."""
    own: list[str] | None = getattr(module, "input_names", None)
    return list(inspect.signature(module.forward).parameters) if own is None else own


def _apart(inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Images of several sizes one by one: ``image/0``, ``image/1``, ..."""
    plain = {name: array for name, array in inputs.items() if array.dtype != object}
    for name, array in inputs.items():
        if array.dtype == object:
            plain |= {f"{name}/{index}": one for index, one in enumerate(array)}
    return plain


def _together(arrays: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """What ``_apart`` took apart, for inputs of these names; anything else as it is."""
    parts: dict[str, dict[int, Array]] = {}
    plain = {}
    for key, array in arrays.items():
        name, _, index = key.rpartition("/")
        if key not in names and name in names and index.isdecimal():
            parts.setdefault(name, {})[int(index)] = array
        else:
            plain[key] = array
    for name, found in parts.items():
        plain[name] = ragged([found[index] for index in range(len(found))])
    return plain


def _shape(tensor: Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _load_held_out(module: nn.Module, file: Path) -> Labelled:
    wanted = input_names(module)
    try:
        arrays = safetensors.numpy.load(_read(file))
        held_out = Labelled(labels=arrays.pop("labels"), inputs=_together(arrays, wanted))
    except SourceError as e:
        raise _damaged(file, e.problem) from e
    except (safetensors.SafetensorError, ValueError, KeyError) as e:
        raise _damaged(file, f"it holds no labelled examples: {e}") from e
    if set(held_out.inputs) != set(wanted):
        found = sorted(held_out.inputs)
        raise _damaged(file, f"its inputs are {found}, the model takes {sorted(wanted)}")
    return Labelled({name: held_out.inputs[name] for name in wanted}, held_out.labels)


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise MissingFileError(f"{file} is missing", remedy="train again, or copy the whole run")
    return file.read_bytes()


def _damaged(file: Path, reason: str) -> EdgeportError:
    return FormatError(
        f"{file} is damaged or was edited: {reason}", remedy="train again, or copy the whole run"
    )
