"""Data sets: tables, arrays, images, MNIST and CIFAR, and those that come with scikit-learn."""

from .arrays import read_npz
from .bundled import BUNDLED, bundled_table, digits
from .cifar import read_cifar
from .examples import Array, DataSet, Labelled, Origin, Split, ragged
from .idx import read_idx, read_idx_set
from .images import image_files, read_image, read_images
from .opening import image_folder, one_size, open_data
from .splitting import fingerprint, repeated, split
from .table import Table, code_points, dataset, read_csv

__all__ = [
    "BUNDLED",
    "Array",
    "DataSet",
    "Labelled",
    "Origin",
    "Split",
    "Table",
    "bundled_table",
    "code_points",
    "dataset",
    "digits",
    "fingerprint",
    "image_files",
    "image_folder",
    "one_size",
    "open_data",
    "ragged",
    "read_cifar",
    "read_csv",
    "read_idx",
    "read_idx_set",
    "read_image",
    "read_images",
    "read_npz",
    "repeated",
    "split",
]
