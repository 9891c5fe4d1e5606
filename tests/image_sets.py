"""Image data sets in the forms that their authors gave them, of any size."""

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MNIST = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def idx(array: np.ndarray) -> bytes:
    """As http://yann.lecun.com/exdb/mnist has it."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + array.astype(np.uint8).tobytes()


def mnist(folder: Path, *arrays: np.ndarray, packed: bool = False) -> Path:
    """Images and labels to train on, and to test on."""
    folder.mkdir(parents=True)
    for name, array in zip(MNIST, arrays, strict=True):
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / name).write_bytes(idx(array))
    return folder


def python_2_pickle(value: object) -> bytes:
    """What cPickle of Python 2 wrote with protocol 2, but for its memo."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: object) -> bytes:
    match value:
        case dict():
            items = (_pickled(key) + _pickled(item) for key, item in value.items())
            return b"}(" + b"".join(items) + b"u"
        case list():
            return b"](" + b"".join(map(_pickled, value)) + b"e"
        case str():
            return _string(value.encode("latin-1"))
        case int():
            return b"J" + struct.pack("<i", value)
        case np.ndarray():
            return _array(value)
    raise TypeError(type(value))


def _string(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text if len(text) < 256 else _long_string(text)


def _long_string(text: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(text)) + text


def _array(array: np.ndarray) -> bytes:
    shape = b"(" + b"".join(_pickled(length) for length in array.shape) + b"t"
    kind = b"cnumpy\ndtype\n" + _string(array.dtype.str[1:].encode()) + b"K\x00K\x01\x87R"
    kind += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return made + b"(K\x01" + shape + kind + b"\x89" + _long_string(array.tobytes()) + b"tb"


def cifar10(folder: Path, names: Sequence[str], *batches: tuple[np.ndarray, Sequence[int]]) -> Path:
    """Five batches to train on and one to test on: images (n, 3072) uint8, and labels."""
    folder.mkdir(parents=True)
    meta: dict[str, object] = {"num_cases_per_batch": 10000, "label_names": list(names)}
    (folder / "batches.meta").write_bytes(python_2_pickle(meta))
    files = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for file, (data, labels) in zip(files, batches, strict=True):
        content = {
            "batch_label": file,
            "labels": list(labels),
            "data": data,
            "filenames": ["a.png"],
        }
        (folder / file).write_bytes(python_2_pickle(content))
    return folder


def cifar100(
    folder: Path, names: Sequence[str], *batches: tuple[np.ndarray, Sequence[int]]
) -> Path:
    """A part to train on and one to test on."""
    folder.mkdir(parents=True)
    meta: dict[str, object] = {"fine_label_names": list(names), "coarse_label_names": ["all"]}
    (folder / "meta").write_bytes(python_2_pickle(meta))
    for file, (data, labels) in zip(("train", "test"), batches, strict=True):
        content = {"data": data, "coarse_labels": [0] * len(labels), "fine_labels": list(labels)}
        (folder / file).write_bytes(python_2_pickle(content))
    return folder
