"""Real inputs and labels, as files of numpy's: ``--samples``, ``--calibration``, ``--labels``."""

from collections.abc import Sequence
from pathlib import Path

from edgeport.commands.terminal import plain
from edgeport.runtimes import MissingFileError, SourceError
from edgeport.runtimes.formats.numpy_files import read_npy, read_npz
from edgeport.runtimes.inputs import Array


def read_samples(
    paths: Sequence[Path], option: str = "--samples"
) -> tuple[list[dict[str, Array]], list[str]]:
    """Every sample of some files and folders, in order, and what to call it; of a folder by name.

    Args:
        paths: Each an ``.npz`` of one array per input; a folder of such files; or a folder of one
            ``NAME.npy`` per input, which is one sample.
        option: That named them.

    Raises:
        MissingFileError: There is no such file or folder.
        SourceError: It holds no samples.
        FormatError: A file holds no plain arrays, or is damaged.
        StorageError: One cannot be read.
    """
    found = [each for path in paths for each in _samples(path, option)]
    return [sample for _, sample in found], [plain(str(path)) for path, _ in found]


def read_labels(path: Path) -> Array:
    """One array of labels, from an ``.npy`` file.

    Raises:
        MissingFileError: There is no such file.
        FormatError: It holds no plain array, or is damaged.
        StorageError: It cannot be read.
    """
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}", remedy="check the path of --labels")
    return read_npy(path)


def _samples(path: Path, option: str) -> list[tuple[Path, dict[str, Array]]]:
    if not path.exists():
        raise MissingFileError(f"no such file: {path}", remedy=f"check the path of {option}")
    if not path.is_dir():
        return [(path, read_npz(path))]
    archives, arrays = (sorted(path.glob(pattern)) for pattern in ("*.npz", "*.npy"))
    if bool(archives) == bool(arrays):
        raise SourceError(
            f"{path} holds {'both .npz and .npy files' if archives else 'no .npz or .npy file'}",
            remedy="fill it with one .npz per sample, or with one NAME.npy per input",
        )
    if archives:
        return [(file, read_npz(file)) for file in archives]
    return [(path, {file.stem: read_npy(file) for file in arrays})]
