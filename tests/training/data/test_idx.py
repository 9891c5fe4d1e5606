import gzip
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_sets import MNIST, idx, mnist

from edgeport.runtimes import (
    BackendMissingError,
    EdgeportError,
    FormatError,
    MissingFileError,
    SourceError,
)
from edgeport.training.data import Split, open_data, read_idx, read_idx_set
from edgeport.training.vision import import_torchvision

Arrays = tuple[np.ndarray, ...]


def arrays(train: int = 12, test: int = 5, side: tuple[int, int] = (4, 3)) -> Arrays:
    drawn = np.random.default_rng(0)
    images = [drawn.integers(0, 256, (n, *side), np.uint8) for n in (train, test)]
    labels = [np.arange(n, dtype=np.uint8) % 3 for n in (train, test)]
    return images[0], labels[0], images[1], labels[1]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["MNIST/raw", "MNIST"])
def test_the_test_files_are_held_out(tmp_path: Path, place: str, packed: bool) -> None:
    mnist(tmp_path / place, *arrays(), packed=packed)
    data = open_data(str(tmp_path / "MNIST"))
    for part, images, labels in zip(
        (data.train, data.held_out), arrays()[::2], arrays()[1::2], strict=True
    ):
        assert np.array_equal(part.inputs["image"], images)
        assert np.array_equal(part.labels, labels)
    assert data.origin.name == "MNIST"
    assert data.origin.split == Split(5 / 17, None, stratified=False)
    assert data.origin.split.held_out(17) == 5
    assert data.origin.schema == {"image": "uint8[4, 3]"}
    assert data.origin.classes == ("0", "1", "2")
    assert read_idx_set(tmp_path / place).origin == data.origin  # the folder of the files, too


def test_classes_have_names_where_the_folder_tells_which_data_they_are(tmp_path: Path) -> None:
    mnist(tmp_path / "FashionMNIST" / "raw", *arrays())
    mnist(tmp_path / "KMNIST" / "raw", *arrays())
    assert open_data(str(tmp_path / "FashionMNIST")).origin.classes[:2] == (
        "T-shirt/top", "Trouser",
    )  # fmt: skip
    assert open_data(str(tmp_path / "KMNIST" / "raw")).origin.classes[-1] == "wo"


@pytest.mark.parametrize("part", [1, 3])
def test_a_label_that_the_data_of_that_name_do_not_have(tmp_path: Path, part: int) -> None:
    made = [*arrays()]
    made[part] = made[part] + 9
    mnist(tmp_path / "KMNIST", *made)
    with pytest.raises(FormatError, match="has the label 11, and KMNIST has 10 classes"):
        open_data(str(tmp_path / "KMNIST"))


def test_a_class_that_is_only_tested_has_a_number(tmp_path: Path) -> None:
    images, labels, more, _ = arrays()
    mnist(tmp_path / "a", images, labels, more, np.array([0, 1, 2, 3, 6]))
    assert open_data(str(tmp_path / "a")).origin.classes == tuple("0123456")


def test_torchvision_reads_the_same(tmp_path: Path) -> None:
    try:
        import_torchvision()
    except BackendMissingError as e:
        pytest.skip(str(e))
    datasets = import_module("torchvision.datasets")
    mnist(tmp_path / "MNIST" / "raw", *arrays())
    data = open_data(str(tmp_path / "MNIST"))
    for part, train in ((data.train, True), (data.held_out, False)):
        theirs = datasets.MNIST(tmp_path, train=train, download=False)
        assert np.array_equal(theirs.data.numpy(), part.inputs["image"])
        assert np.array_equal(theirs.targets.numpy(), part.labels)


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    mnist(tmp_path / "MNIST" / "raw", *arrays())
    (tmp_path / "MNIST" / "raw" / MNIST[0]).unlink()
    (tmp_path / "MNIST" / "raw" / MNIST[3]).unlink()
    with pytest.raises(MissingFileError, match=rf"raw lacks {MNIST[0]}, {MNIST[3]}\n") as caught:
        open_data(str(tmp_path / "MNIST"))
    assert all(name in caught.value.remedy for name in MNIST)
    assert "torchvision.datasets.MNIST(root, download=True)" in caught.value.remedy


@pytest.mark.parametrize(
    ("made", "problem"),
    [
        ((*arrays()[:1], np.zeros(11), *arrays()[2:]), "has 12 images, "),
        ((*arrays()[:3], np.zeros(6)), "has 6 labels"),
        ((*arrays()[:2], *arrays(side=(3, 4))[2:]), "4x3 images to train on and 3x4 to test on"),
        ((arrays()[0], np.ones(12), *arrays()[2:]), "'label' holds one class only, 1"),
        ((np.zeros((0, 4, 3)), np.zeros(0), *arrays()[2:]), "labels are int64[0]"),
    ],
)
def test_files_that_do_not_fit_one_another(tmp_path: Path, made: Arrays, problem: str) -> None:
    mnist(tmp_path / "a", *made)
    with pytest.raises((FormatError, SourceError), match=re.escape(problem)):
        open_data(str(tmp_path / "a"))


WHOLE = idx(np.zeros((2, 3, 3)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "it starts with , expected 00000803"),
        (idx(np.zeros(7)), "it starts with 00000801, expected 00000803"),
        (WHOLE.replace(b"\x08", b"\x0d", 1), "it starts with 00000d03, expected 00000803"),
        (WHOLE[:9], "it starts with 00000803, expected 00000803"),
        (WHOLE[:-1], "it has not the 18 bytes of [2, 3, 3] after its header"),
        (WHOLE + b"\x00", "it has not the 18 bytes of [2, 3, 3] after its header"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "bytes of [4294967295, 4294967295, 4294967295]"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_file(tmp_path: Path, content: bytes, problem: str, packed: bool) -> None:
    path = tmp_path / ("a.gz" if packed else "a")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(FormatError, match=re.escape(problem)):
        read_idx(path, 3)


@pytest.mark.parametrize("content", [b"no", gzip.compress(WHOLE, mtime=0)[:-9], b"", WHOLE])
def test_what_is_not_compressed_as_its_name_says(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(FormatError, match=r"a\.gz is no idx file of bytes: ") as caught:
        read_idx(tmp_path / "a.gz", 3)
    assert caught.value.remedy == "download it again, and unpack it whole"


@given(st.binary(max_size=40), st.booleans())
def test_no_bytes_cause_another_error(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, headed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(b"\x00\x00\x08\x01" + tail if headed else tail)
    try:
        assert len(read_idx(path, 1)) == len(tail) - 4
    except EdgeportError as e:
        assert e.remedy  # noqa: PT017  # that it is one is what is tested
