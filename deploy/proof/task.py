"""What the user really wants to know: are the answers as good as the module's, by their labels?

Two answers of one row are compared, the module's and a backend's, so that the difficulty of the
rows does not matter. Accuracy is worse than noise allows if more rows were lost than gained and
chance would do that in fewer than one of a hundred cases: the exact test of McNemar (1947), with
``lost`` out of ``lost + gained`` at one half. The squared error is worse than noise allows if its
mean grew by more than one percent, and by more than three standard errors of the rows' growth.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import numpy as np

from edgeport.deploy.sources.running import run_module
from edgeport.deploy.sources.samples import rows_of
from edgeport.deploy.sources.source import Source
from edgeport.runtimes import Range, Session, SourceError
from edgeport.runtimes.inputs import Array

CHANCE: Final = 0.01
GROWTH: Final = 0.01
STANDARD_ERRORS: Final = 3.0

_ROWS: Final = 32
"""Rows that are run at once."""


@dataclass(frozen=True, slots=True)
class Score:
    """One backend beside the module.

    Attributes:
        metric: ``accuracy``: of the largest along the axis of classes; or of integer answers;
            ``mse``: mean squared error.
        module, artefact: The metric of each.
        rows: Labels that were compared.
        lost, gained: Labels that only the module, or only the backend, got right.
        passed: Whether it is no worse than noise allows.
    """

    backend: str
    metric: Literal["accuracy", "mse"]
    module: float
    artefact: float
    rows: int
    lost: int = 0
    gained: int = 0
    passed: bool = True

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return asdict(self)


class Task:
    """Labels, and what the module makes of the rows that they belong to.

    Args:
        source: Its real samples are what the labels are for, row by row.
        labels: Integers: one class for each row, pixel or token; floats: like the first output.

    Raises:
        SourceError: The labels do not fit what the module answers, or the rows the model.
    """

    def __init__(self, source: Source, labels: Array) -> None:
        self._inputs = [part for sample in source.real for part in parts_of(source, sample)]
        self._name = source.signature.outputs[0].name
        if not self._inputs:
            raise SourceError("there are labels, but no samples", remedy="give --samples too")
        self._own = np.concatenate([run_module(source.flat, part)[0] for part in self._inputs])
        self._labels = labels
        self._axis = _class_axis(self._own, labels)

    def score(self, backend: str, session: Session) -> Score:
        """Ask one backend.

        Raises:
            EngineError: The engine failed.
        """
        answers = [session.run(part)[self._name] for part in self._inputs]
        theirs = np.concatenate(answers)
        if self._labels.dtype.kind == "f":
            return _squared(backend, self._own, theirs, self._labels)
        return _counted(
            backend,
            _decided(self._own, self._axis) == self._labels,
            _decided(theirs, self._axis) == self._labels,
        )


def parts_of(source: Source, sample: Mapping[str, Array]) -> list[dict[str, Array]]:
    """A sample cut into about ``_ROWS`` rows, if its rows are free.

    Raises:
        SourceError: The model does not take so many, however they are cut.
    """
    batch = rows_of(source.signature)
    if batch is None:
        return [dict(sample)]
    rows, range_ = len(next(iter(sample.values()))), source.signature.range_of(batch)
    if not _fits(rows, range_):
        fewer = next(filter(lambda n: _fits(n, range_), range(rows, 0, -1)), 0)
        raise SourceError(
            f"a sample with labels has {rows} rows, and the model takes {batch} in {range_}",
            remedy=f"leave {rows - fewer} of its rows out, and their labels"
            if fewer
            else f"give {range_.min} rows at least in each sample",
        )
    return [
        {name: array[part] for name, array in sample.items()} for part in range_.parts(rows, _ROWS)
    ]


def _fits(rows: int, range_: Range) -> bool:
    return all(part.stop - part.start in range_ for part in range_.parts(rows, _ROWS))


def _class_axis(output: Array, labels: Array) -> int | None:
    """The axis of the classes; ``None`` where the output itself is compared."""
    if output.shape == labels.shape and (labels.dtype.kind == "f") == (output.dtype.kind == "f"):
        return None
    if labels.dtype.kind in "iub" and output.dtype.kind == "f" and output.ndim > 1:
        for axis in (-1, 1):  # classes last; or as torch's losses have them: (N, C, H, W)
            if np.delete(np.array(output.shape), axis).tolist() == list(labels.shape):
                return axis
    raise SourceError(
        f"labels {labels.dtype}{list(labels.shape)} do not fit the first output, "
        f"{output.dtype}{list(output.shape)} over all samples",
        remedy="give one integer for each row (or pixel, or token) of the samples, in their order; "
        "or floats like the output",
    )


def _decided(output: Array, axis: int | None) -> Array:
    decided: Array = output if axis is None else output.argmax(axis)
    return decided


def _counted(backend: str, own: Array, theirs: Array) -> Score:
    lost, gained = int((own & ~theirs).sum()), int((theirs & ~own).sum())
    worse = lost > gained and _chance(lost, lost + gained) < CHANCE
    return Score(
        backend,
        "accuracy",
        float(own.mean()),
        float(theirs.mean()),
        own.size,
        lost,
        gained,
        not worse,
    )


def _chance(heads: int, tosses: int) -> float:
    """Of at least so many heads.

    Examples:
        >>> _chance(2, 3)
        0.5
    """
    ways = sum(math.comb(tosses, count) for count in range(heads, tosses + 1))
    return float(ways / 2**tosses)


def _squared(backend: str, own: Array, theirs: Array, labels: Array) -> Score:
    before, after = (_by_row(output, labels) for output in (own, theirs))
    growth = after - before
    error = float(growth.std(ddof=1) / math.sqrt(len(growth))) if len(growth) > 1 else 0.0
    grown = float(growth.mean())
    worse = grown > GROWTH * float(before.mean()) and grown > STANDARD_ERRORS * error
    return Score(
        backend, "mse", float(before.mean()), float(after.mean()), len(labels), passed=not worse
    )


def _by_row(output: Array, labels: Array) -> Array:
    squared = np.square(output.astype(np.float64) - labels)
    means: Array = squared.reshape(len(squared), -1).mean(1)
    return means


def describe(scores: Sequence[Score]) -> list[str]:
    """A line for each backend."""
    return [
        f"{s.backend}: {s.metric} {s.artefact:.4g}, the module's is {s.module:.4g}, on {s.rows} "
        "labels" + (f"; {s.lost} lost, {s.gained} gained" if s.metric == "accuracy" else "")
        for s in scores
    ]
