"""Raw data in, labels out: what stands between a user's data and the tensors of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgeport.runtimes.bundles.bundle import open_labelled

from .devices import GpuOptions
from .errors import FormatError, InputError, UsageError
from .inputs import Array
from .rows import rows_first
from .session import Closes, Session
from .signature import TensorSpec
from .text import encode, is_text
from .values import dataclass

LOGITS: Final = "logits"
"""The output whose largest number names the class."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one row.

    Attributes:
        label: Name of the most likely class, or its number where the bundle knows no names;
            ``None`` for a model without an output ``logits``: (rows, classes).
        probability: Its softmax.
        outputs: The row of every output.
    """

    label: str | int | None
    probability: float | None
    outputs: Mapping[str, Array]


class Predictor(Closes):
    """An open model that takes raw data. Close it, or use it in a ``with`` block.

    Args:
        session: What answers.
        labels: Names of the classes along ``logits``, if they are known.
    """

    def __init__(self, session: Session, labels: Sequence[str] = ()) -> None:
        self.session = session
        self.labels = tuple(labels)

    def predict(self, raw: object) -> list[Prediction]:
        """Tell something of every row.

        Args:
            raw: What the input takes, or such things by name of the input: a list of texts where it
                is text (``text.is_text``); else an array, or nested lists of numbers, rows first.

        Raises:
            InputError: It does not fit the signature.
            UsageError: An output has no rows, or another number of them; or ``logits`` no classes.
            FormatError: ``logits`` has not as many classes as there are labels.
            EngineError: The engine failed.
        """
        inputs = tensors(raw, self.session.signature.inputs)
        answer = self.session.run(inputs)
        moved = rows_first(self.session.signature, answer)
        outputs = {name: array for name, array in moved.items() if array is not None}
        counts = {None if array is None else len(array) for array in moved.values()}
        rows = counts.pop() if len(counts) == 1 else None
        if rows is None:
            told = ", ".join(f"{name}: {list(array.shape)}" for name, array in answer.items())
            raise UsageError(
                f"the outputs have no row for each row of the input: {told}",
                remedy="call session.run, which gives the outputs as they are",
            )
        labels: Sequence[str | int | None] = [None] * rows
        likely: Sequence[float | None] = [None] * rows
        if LOGITS in outputs and outputs[LOGITS].ndim == 2:
            labels, likely = most_likely(outputs[LOGITS], self.labels)
        return [
            Prediction(labels[row], likely[row], {name: a[row] for name, a in outputs.items()})
            for row in range(rows)
        ]

    def close(self) -> None:
        """Give the engine's memory back."""
        self.session.close()


def open_predictor(
    path: str | Path,
    backend: str | None = None,
    *,
    threads: int | None = None,
    device: str | None = None,
    gpu: GpuOptions | None = None,
) -> Predictor:
    """Open a model to give it raw data; the arguments are those of ``edgeport.runtimes.open``.

    Raises:
        EdgeportError: As ``edgeport.runtimes.open``.
    """
    session, labels = open_labelled(path, backend, threads=threads, device=device, gpu=gpu)
    return Predictor(session, labels.get(LOGITS, ()))


def most_likely(logits: Array, labels: Sequence[str]) -> tuple[list[str | int], list[float]]:
    """The class of each row and its softmax, exp(x - max) / sum of exp(x - max), in float64.

    An infinite logit is taken as the limit: classes that are equally large share the probability.
    A row with NaN has the class of the first NaN, as ``argmax``, and the probability NaN.

    Args:
        logits: (rows, classes).
        labels: Names of the classes; empty if there are none.

    Raises:
        UsageError: There are no classes.
        FormatError: There are more classes or fewer than labels.

    Examples:
        >>> most_likely(np.array([[0.0, 0.0, 1e4]]), ["a", "b", "c"])
        (['c'], [1.0])
        >>> most_likely(np.array([[0.0, np.inf, np.inf]]), [])
        ([1], [0.5])
    """
    classes = logits.shape[1]
    if not classes:
        raise UsageError(
            f"{LOGITS} has no classes: {list(logits.shape)}",
            remedy="call session.run, which gives the outputs as they are",
        )
    if labels and len(labels) != classes:
        raise FormatError(
            f"{LOGITS} has {classes} classes, and there are labels of {len(labels)}",
            remedy="export the model again, with a label for each class",
        )
    exact = logits.astype(np.float64)
    top = exact.max(1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):  # inf - inf: both are the largest
        shifted = np.exp(np.where(exact == top, 0, exact - top))
    probability = shifted.max(1) / shifted.sum(1)
    numbers = [int(n) for n in logits.argmax(1)]
    return [labels[n] if labels else n for n in numbers], [float(p) for p in probability]


def tensors(raw: object, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Raw data as the inputs of a session; the session checks what they are.

    Raises:
        InputError: An input is missing, is given but not taken, or cannot be converted.
    """
    given = raw if isinstance(raw, Mapping) else {specs[0].name: raw} if len(specs) == 1 else None
    names = [spec.name for spec in specs]
    if given is None or set(given) != set(names):
        got = "no names" if given is None else ", ".join(map(str, given)) or "nothing"
        raise InputError(
            f"the model takes {', '.join(map(str, specs)) or 'nothing'}, and got {got}",
            remedy=f"pass a dictionary of {', '.join(names)}",
        )
    texts = {s.name: _texts(given[s.name], s.name) for s in specs if is_text(s)}
    width = max((len(text) for each in texts.values() for text in each), default=0)
    return {
        spec.name: encode(texts[spec.name], width)
        if spec.name in texts
        else _array(given[spec.name], spec)
        for spec in specs
    }


def _texts(value: Any, name: str) -> Sequence[str]:
    """A list of texts."""
    if isinstance(value, list | tuple) and all(isinstance(text, str) for text in value):
        return value
    raise InputError(
        f"input {name!r} is text, and got {type(value).__name__}", remedy="pass a list of strings"
    )


def _array(value: Any, spec: TensorSpec) -> Array:
    if isinstance(value, np.ndarray):
        return value  # another dtype is told, not converted
    try:
        found = np.asarray(value)
    except (ValueError, TypeError) as e:  # rows of several lengths
        raise InputError(
            f"input {spec.name!r} is no array: {e}", remedy=f"pass {spec}, rows first"
        ) from e
    except RuntimeError as e:  # a tensor of torch: with a gradient, or a conjugate not yet computed
        raise InputError(
            f"input {spec.name!r} is no array: {e}", remedy="pass tensor.detach().resolve_conj()"
        ) from e
    dtype = np.dtype(spec.dtype)
    if dtype.kind != "f" and found.dtype.kind in "fO":
        found = _exact(value, found)
    if found.dtype.kind not in ("biuf" if dtype.kind == "f" else "biuO"):
        raise InputError(
            f"input {spec.name!r} is {found.dtype}, expected {spec.dtype}",
            remedy=f"pass {spec}, rows first",
        )
    return as_float(found, dtype, spec) if dtype.kind == "f" else _as_integer(found, dtype, spec)


def _exact(value: Any, found: Array) -> Array:
    """Integers that numpy has no one type for: it makes floats of -1 or 1 beside 2**63."""
    objects = np.asarray(value, object)
    return objects if all(isinstance(number, int) for number in objects.flat) else found


def _as_integer(found: Array, dtype: np.dtype[Any], spec: TensorSpec) -> Array:
    """Integers or truth values as others, each of which is the same number."""
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    for value in (int(found.min(initial=0)), int(found.max(initial=0))):
        if not least <= value <= most:
            raise _beyond(value, spec, least, most)
    return found.astype(dtype)


def as_float(found: Array, dtype: np.dtype[Any], spec: TensorSpec) -> Array:
    """Numbers rounded to the float type of an input, none of them to infinity.

    Raises:
        InputError: One is beyond it.
    """
    with np.errstate(over="ignore"):
        cast = found.astype(dtype)
    lost = found[np.isfinite(found) & ~np.isfinite(cast)]
    if lost.size:
        most = np.finfo(dtype).max
        raise _beyond(lost.flat[0], spec, -most, most)
    return cast


def _beyond(value: object, spec: TensorSpec, least: object, most: object) -> InputError:
    return InputError(
        f"input {spec.name!r} holds {value}, and {spec.dtype} ends at {least} and {most}",
        remedy="pass numbers between these",
    )
