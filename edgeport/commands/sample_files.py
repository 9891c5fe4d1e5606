"""Real inputs and labels, as files of numpy's: ``--samples``, ``--labels``."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from edgeport.runtimes import MissingFileError, SourceError
from edgeport.runtimes.inputs import Array

T = TypeVar("T")


def read_samples(paths: Sequence[Path]) -> list[dict[str, Array]]:
    """Every sample of some files and folders, in order; those of a folder by name.

    Args:
        paths: Each an ``.npz`` of one array per input; a folder of such files; or a folder of one
            ``NAME.npy`` per input, which is one sample.

    Raises:
        MissingFileError: There is no such file or folder.
        SourceError: It holds no samples, or cannot be read.
    """
    return [sample for path in paths for sample in _samples(path)]


def read_labels(path: Path) -> Array:
    """One array of labels, from an ``.npy`` file.

    Raises:
        MissingFileError: There is no such file.
        SourceError: It cannot be read.
    """
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="check the path of --labels")
    return _read(path, _one)


def _samples(path: Path) -> list[dict[str, Array]]:
    if not path.exists():
        raise MissingFileError(f"no such file: {path}", remedy="check the path of --samples")
    if not path.is_dir():
        return [_read(path, _several)]
    archives, arrays = (sorted(path.glob(pattern)) for pattern in ("*.npz", "*.npy"))
    if bool(archives) == bool(arrays):
        raise SourceError(
            f"{path} holds {'both .npz and .npy files' if archives else 'no .npz or .npy file'}",
            remedy="fill it with one .npz per sample, or with one NAME.npy per input",
        )
    if archives:
        return [_read(file, _several) for file in archives]
    return [{file.stem: _read(file, _one) for file in arrays}]


def _read(path: Path, load: Callable[[Path], T]) -> T:
    try:
        return load(path)
    except PermissionError as e:
        raise SourceError(f"{path} cannot be read: {e.strerror}", remedy="make it readable") from e
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as e:
        wanted = "an .npz of plain arrays" if load is _several else "an .npy of a plain array"
        raise SourceError(
            f"{path} is not {wanted}: {e}",
            remedy="write it with np.savez(path, NAME=array), one array per input"
            if load is _several
            else "write it with np.save(path, array)",
        ) from e


def _several(path: Path) -> dict[str, Array]:
    import numpy as np

    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        raise ValueError("it is one array, and says no input's name")
    with found as archive:
        return {name: archive[name] for name in archive.files}


def _one(path: Path) -> Array:
    import numpy as np

    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    found.close()
    raise ValueError("it is an archive of arrays")
