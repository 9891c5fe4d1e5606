"""The weights of an artefact, told from its bytes: no engine opens it, and nothing in it runs."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array


@dataclass(frozen=True, slots=True)
class Weight:
    """One tensor.

    Attributes:
        dtype: As numpy or ONNX calls it; ``"type 99"`` if neither does.
        data: Its bytes, little-endian, in C order; ``None`` if it has none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | None

    def values(self) -> Array | None:
        """As float64; ``None`` where the bytes don't fit the shape, or are no plain numbers."""
        if self.data is None:
            return None
        try:
            if self.dtype == "bfloat16":
                wide = np.frombuffer(self.data, "<u2").astype(np.uint32) << 16
                return wide.view(np.float32).astype(np.float64).reshape(self.shape)
            dtype = np.dtype(self.dtype).newbyteorder("<")
            if dtype.kind not in "fiub":
                return None
            return np.frombuffer(self.data, dtype).astype(np.float64).reshape(self.shape)
        except (ValueError, TypeError, OverflowError):
            return None

    def split(self, most: int = 2**20) -> Iterator[Weight]:
        """Its elements in order, so many at a time, along one axis.

        Nothing comes where the bytes don't fit the shape, or the size of an element is not known.
        """
        if len(self.shape) > _MOST_AXES:
            return
        try:
            size = itemsize(self.dtype)
        except ValueError:
            return
        if self.data is None or len(self.data) != size * math.prod(self.shape):
            return
        for start in range(0, len(self.data), most * size):
            data = self.data[start : start + most * size]
            yield Weight(self.name, self.dtype, (len(data) // size,), data)


READABLE: Final = ("onnx", "pt2", "torchscript")
"""Formats whose weights are read here."""


def read_weights(path: Path, format_: str) -> dict[str, Weight]:
    """The weights of an artefact, by name.

    Args:
        path: The file; what is beside it may be read as well.
        format_: One of ``READABLE``. A ``.pt2`` has the names of the module's state, ONNX those of
            its initialisers; TorchScript's are the paths of attributes, or places among its
            constants where it is frozen.

    Raises:
        ValueError: It is damaged.
        OSError: It cannot be read.
    """
    if format_ == "onnx":
        from . import of_onnx

        return of_onnx.read_weights(path.read_bytes(), _Beside(path.parent))
    from . import of_torch

    reader = of_torch.pt2_weights if format_ == "pt2" else of_torch.torchscript_weights
    with path.open("rb") as file:
        return reader(file, path.stat().st_size)


_MOST_TIMES: Final = 4
_MOST_AXES: Final = 64
"""Neither torch nor numpy has more."""


class _Beside:
    """Parts of the files beside an artefact: listed ones, ``Bundle.private`` saw to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._left_bytes: dict[str, int] = {}

    def __call__(self, name: str, offset: int, length: int | None) -> bytes:
        place = self._folder / name
        size = place.stat().st_size
        wanted = size - offset if length is None else length
        if min(offset, wanted) < 0 or offset + wanted > size:
            raise ValueError(
                f"{name} is read at {reprlib.repr(offset)}, {reprlib.repr(length)} bytes"
            )
        left = self._left_bytes.get(name, _MOST_TIMES * size) - wanted
        if left < 0:
            raise ValueError(f"{name} is read more than {_MOST_TIMES} times")
        self._left_bytes[name] = left
        with place.open("rb") as file:
            file.seek(offset)
            return file.read(wanted)


def c_order(
    data: bytes,
    dtype: str,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    most_bytes: int,
) -> bytes:
    """The bytes of a view of a storage, as if it were contiguous.

    Args:
        data: The storage.
        dtype: Of its elements.
        offset: Of the first one, counted in elements.
        shape: Of the view.
        strides: From one element to the next along each axis, counted in elements.
        most_bytes: How large it may be: a stride of 0 repeats what is stored once.

    Raises:
        ValueError: The view leads out of the storage, or is larger than it may be.
    """
    size = itemsize(dtype)
    if len(shape) > _MOST_AXES:
        raise ValueError(f"a tensor has {len(shape)} axes, at most {_MOST_AXES} are expected")
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or min(numbers) < 0 or max(numbers) >= 2**63:
        told = [reprlib.repr(each) for each in (shape, strides, offset)]
        raise ValueError("a tensor has shape {}, strides {} and offset {}".format(*told))
    count = math.prod(shape)
    if count == 0:
        return b""
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if size * (last + 1) > len(data) or size * count > most_bytes:
        raise ValueError(
            f"a tensor of shape {reprlib.repr(shape)} does not fit into {len(data)} bytes"
        )
    elements = np.frombuffer(data, f"V{size}")[offset:]
    # along an axis of one element nothing is stepped, and torch writes any stride
    steps = [step * size if n > 1 else 0 for n, step in zip(shape, strides, strict=True)]
    return np.lib.stride_tricks.as_strided(elements, shape, steps, writeable=False).tobytes()


def itemsize(dtype: str) -> int:
    """Bytes of one element.

    Raises:
        ValueError: It is not known.
    """
    if dtype.startswith("float8"):
        return 1
    named = {"bfloat16": 2, "complex32": 4}
    try:
        return named.get(dtype) or np.dtype(dtype).itemsize
    except TypeError as e:
        raise ValueError(f"a tensor has the dtype {dtype[:40]!r}") from e
