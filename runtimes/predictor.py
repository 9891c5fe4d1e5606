"""Raw data in, labels out: what stands between a user's data and the tensors of a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from .bundle import Bundle, open_session
from .devices import GpuOptions
from .errors import InputError, UsageError
from .inputs import Array
from .session import FORMATS, Session
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


class Predictor:
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
            UsageError: An output has no rows, or another number of them.
            EngineError: The engine failed.
        """
        inputs = tensors(raw, self.session.signature.inputs)
        answer = self.session.run(inputs)
        counts = {len(array) if array.ndim else None for array in answer.values()}
        rows = counts.pop() if len(counts) == 1 else None
        if rows is None:
            told = ", ".join(f"{name}: {list(array.shape)}" for name, array in answer.items())
            raise UsageError(
                f"the outputs have no row for each row of the input: {told}",
                remedy="call session.run, which gives the outputs as they are",
            )
        labels: Sequence[str | int | None] = [None] * rows
        likely: Sequence[float | None] = [None] * rows
        if LOGITS in answer and answer[LOGITS].ndim == 2:
            labels, likely = most_likely(answer[LOGITS], self.labels)
        return [
            Prediction(labels[row], likely[row], {name: a[row] for name, a in answer.items()})
            for row in range(rows)
        ]

    def close(self) -> None:
        """Give the engine's memory back."""
        self.session.close()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
    session = open_session(path, backend, threads=threads, device=device, gpu=gpu)
    return Predictor(session, labels_of(Path(path)))


def labels_of(path: Path) -> tuple[str, ...]:
    """Names of the classes of ``logits``, which a bundle may know.

    Raises:
        EdgeportError: As ``Bundle.read``.
    """
    if path.suffix in FORMATS.values() and not path.is_dir():
        return ()
    return Bundle.read(path).manifest.labels.get(LOGITS, ())


def most_likely(logits: Array, labels: Sequence[str]) -> tuple[list[str | int], list[float]]:
    """The class of each row and its softmax, in float64.

    Args:
        logits: (rows, classes).
        labels: Names of the classes; empty if there are none.

    Examples:
        >>> most_likely(np.array([[0.0, 0.0, 1e4]]), ["a", "b", "c"])
        (['c'], [1.0])
    """
    found = logits.argmax(1)
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    probability = shifted.max(1) / shifted.sum(1)
    numbers = [int(n) for n in found]
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
    if not np.can_cast(found.dtype, spec.dtype, "same_kind"):
        raise InputError(
            f"input {spec.name!r} is {found.dtype}, expected {spec.dtype}",
            remedy=f"pass {spec}, rows first",
        )
    with np.errstate(over="ignore"):
        return found.astype(spec.dtype)
