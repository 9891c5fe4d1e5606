"""A pickle of plain values and arrays of bytes, told without unpickling.

What Python 2 wrote for an array of numpy is known by its form.
"""

import warnings
from collections.abc import Mapping
from typing import Final

import numpy as np

from edgeport.runtimes.formats import pickles
from edgeport.runtimes.formats.pickles import Made

from .examples import Array

_ARRAY: Final = "numpy.core.multiarray._reconstruct"
_NAMES: Final = frozenset({_ARRAY, "numpy.ndarray", "numpy.dtype"})
"""An array is _reconstruct(ndarray, (0,), "b"), a kind dtype("u1", 0, 1); each has a state, too."""

_STEPS: Final[Mapping[str, pickles.Step]] = {**pickles.STEPS, **pickles.OLD_STEPS}


class _Machine(pickles.Machine):
    def name(self, name: str) -> None:
        super().name(name)
        if self.stack[-1].name not in _NAMES:
            raise ValueError(f"it names {self.stack[-1].name}")


def read_plain(data: bytes) -> object:
    """Read what a pickle describes; text is latin-1.

    Args:
        data: Whole, of protocol 0 to 2.

    Returns:
        ``None``, numbers, strings, tuples, lists and dictionaries.

    Raises:
        ValueError: It is damaged, or names anything but numpy's arrays.
    """
    try:
        with warnings.catch_warnings():  # pickletools undoes odd escapes of text with one
            warnings.simplefilter("ignore", DeprecationWarning)
            made: object = pickles.told(data, _Machine(), _STEPS)
            return made
    except ValueError as e:
        raise ValueError(f"it is no pickle of plain values: {e}") from e


def byte_array(made: object) -> Array:
    """The array that a part of what was read describes: uint8.

    Raises:
        ValueError: It is no array of bytes, or a damaged one.
    """
    if isinstance(made, Made) and made.name == _ARRAY:
        match made.state:
            case (_, tuple() as shape, Made("numpy.dtype", ("u1", *_)), False, str() as text):
                try:
                    return np.frombuffer(text.encode("latin-1"), np.uint8).reshape(shape)
                except TypeError as e:  # a size is no number
                    raise ValueError(f"its shape is no shape: {e}") from e
    raise ValueError("it is no array of uint8")
