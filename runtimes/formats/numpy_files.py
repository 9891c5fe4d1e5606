"""Arrays in files of numpy's, ``.npy`` and ``.npz``: plain ones, never a pickle.

They are in the byte order of this machine, whatever that of the file: engines take no other.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from edgeport.runtimes.bundles.container import reading
from edgeport.runtimes.errors import FormatError
from edgeport.runtimes.inputs import Array

T = TypeVar("T")

_ARRAY: Final = b"\x93NUMPY"
_ARCHIVE: Final = b"PK"
"""How files begin; numpy takes all others for pickles, and says so."""


def read_npz(path: Path) -> dict[str, Array]:
    """The arrays of an ``.npz`` file, by name.

    Raises:
        FormatError: It is none, is damaged, or holds objects.
        StorageError: It cannot be read.
    """
    return _read(path, _several, "an .npz of plain arrays", "np.savez(path, NAME=array)")


def read_npy(path: Path) -> Array:
    """The array of an ``.npy`` file.

    Raises:
        FormatError: It is none, is damaged, or holds objects.
        StorageError: It cannot be read.
    """
    return _read(path, _one, "an .npy of a plain array", "np.save(path, array)")


def as_npz(arrays: Mapping[str, Array]) -> bytes:
    """Arrays as an ``.npz`` file, not compressed.

    Whatever their names are: ``np.savez`` takes none that is called ``file``.

    Examples:
        >>> with np.load(io.BytesIO(as_npz({"file": np.zeros(3)}))) as found:
        ...     found["file"].shape
        (3,)
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return content.getvalue()


def _read(path: Path, take: Callable[[Any], T], what: str, how: str) -> T:
    with reading(path):
        opened = path.open("rb")
    with opened as file:
        try:
            if not file.peek(len(_ARRAY)).startswith((_ARRAY, _ARCHIVE)):
                raise ValueError("it is no file of numpy's")
            return take(np.load(file, allow_pickle=False))
        except MemoryError:
            raise
        except Exception as e:  # numpy lets through what zipfile, zlib and tokenize raise
            if "Object arrays" in str(e):  # numpy's words for a pickle, of which it says no more
                raise FormatError(
                    f"{path} holds an array of Python objects, a pickle, which is never read",
                    remedy="save numbers of one type and rows of one length: "
                    "array.astype('float32')",
                ) from e
            raise FormatError(f"{path} is not {what}: {e}", remedy=f"write it with {how}") from e


def _several(found: Any) -> dict[str, Array]:
    if isinstance(found, np.ndarray):
        raise ValueError("it is one array, without a name")
    arrays = {name: found[name] for name in found.files}
    if other := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"{other[0]} in it is no array")
    return {name: _native(array) for name, array in arrays.items()}


def _one(found: Any) -> Array:
    if not isinstance(found, np.ndarray):
        raise ValueError("it is an archive of arrays")
    return _native(found)


def _native(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder("="), copy=False)
