import os
import pickle
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from image_sets import cifar10, cifar100, python_2_pickle

from edgeport.runtimes import BackendMissingError, FormatError, MissingFileError, SourceError
from edgeport.runtimes.formats.pickles import Made
from edgeport.training.data import open_data, read_cifar
from edgeport.training.data.plain_pickle import byte_array
from edgeport.training.vision import import_torchvision

NAMES = ("airplane", "automobile", "bird")


def batch(number: int, count: int = 4) -> tuple[np.ndarray, list[int]]:
    drawn = np.random.default_rng(number)
    labels = [(number + index) % len(NAMES) for index in range(count)]
    return drawn.integers(0, 256, (count, 3072), np.uint8), labels


def ten(folder: Path) -> Path:
    cifar10(folder, NAMES, *map(batch, range(6)))
    return folder


def test_cifar_10(tmp_path: Path) -> None:
    data = open_data(str(ten(tmp_path / "cifar-10-batches-py")))
    assert data.origin.name == "CIFAR10"
    assert data.origin.classes == NAMES
    assert data.origin.schema == {"image": "uint8[32, 32, 3]"}
    assert (len(data.train), len(data.held_out), data.origin.examples) == (20, 4, 24)
    planes, labels = batch(4)
    image = data.train.inputs["image"][16]
    assert image[31, 2].tolist() == planes[0].reshape(3, 32, 32)[:, 31, 2].tolist()
    assert data.train.labels[16:].tolist() == labels
    assert data.held_out.labels.tolist() == batch(5)[1]


def test_cifar_100_has_its_fine_labels(tmp_path: Path) -> None:
    place = cifar100(tmp_path / "cifar-100-python", NAMES, batch(0, 7), batch(1, 3))
    data = open_data(str(place))
    assert (data.origin.name, data.origin.classes) == ("CIFAR100", NAMES)
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert len(data.held_out) == 3


def test_python_and_torchvision_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ten(tmp_path / "cifar-10-batches-py")
    theirs = pickle.loads((place / "data_batch_2").read_bytes(), encoding="latin1")
    assert theirs["labels"] == batch(1)[1]
    assert np.array_equal(theirs["data"], batch(1)[0])
    try:
        import_torchvision()
    except BackendMissingError as e:
        pytest.skip(str(e))
    cifar = import_module("torchvision.datasets.cifar")
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)  # it knows the real ones' MD5
    data = read_cifar(place)
    for part, train in ((data.train, True), (data.held_out, False)):
        found = cifar.CIFAR10(tmp_path, train=train, download=False)
        assert np.array_equal(found.data, part.inputs["image"])
        assert found.targets == part.labels.tolist()
        assert tuple(found.classes) == data.origin.classes


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    place = ten(tmp_path / "c")
    (place / "data_batch_3").unlink()
    (place / "test_batch").unlink()
    with pytest.raises(MissingFileError, match="c lacks data_batch_3, test_batch\n") as caught:
        open_data(str(place))
    assert caught.value.remedy == (
        "it needs data_batch_1, data_batch_2, data_batch_3, data_batch_4, data_batch_5, "
        "test_batch, batches.meta: torchvision.datasets.CIFAR10(root, download=True) writes them"
    )


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_code_of_a_file_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    place = ten(tmp_path / "c")
    content = {"data": Attack(), "labels": [0]}
    (place / "data_batch_1").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(FormatError, match="data_batch_1 is not as CIFAR's authors wrote it") as e:
        open_data(str(place))
    assert "with one folder per class" in e.value.remedy
    assert not (tmp_path / "attacked").exists()


def _data(*shape: int, dtype: str = "u1") -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"labels": [0]}, "it has not data and labels"),
        ([1], "it has not data and labels"),
        ({"data": [1], "labels": [0]}, "its data: it is no array of uint8"),
        ({"data": _data(1, 3072, dtype="<i2"), "labels": [0]}, "its data: it is no array of uint8"),
        ({"data": _data(1, 3072), "labels": [0, 1]}, "its data are [1, 3072], expected [labels, "),
        ({"data": _data(2, 3071), "labels": [0, 1]}, "its data are [2, 3071], expected [labels, "),
        ({"data": _data(1, 3072), "labels": 0}, "its data are [1, 3072], expected [labels, 3072]"),
        ({"data": _data(1, 3072), "labels": [3]}, "a label is 3, expected 0 to 2"),
        ({"data": _data(1, 3072), "labels": ["a"]}, "a label is 'a', expected 0 to 2"),
    ],
)
def test_a_damaged_batch(tmp_path: Path, content: object, problem: str) -> None:
    place = ten(tmp_path / "c")
    (place / "test_batch").write_bytes(python_2_pickle(content))
    with pytest.raises(FormatError, match=re.escape(f"wrote it: {problem}")):
        open_data(str(place))


def test_a_shape_that_is_none() -> None:
    kind = Made("numpy.dtype", ("u1", 0, 1))
    array = Made("numpy.core.multiarray._reconstruct", (), (1, (1, "3072"), kind, False, "abc"))
    with pytest.raises(ValueError, match="its shape is no shape: "):
        byte_array(array)


def test_cut_files_and_names(tmp_path: Path) -> None:
    place = ten(tmp_path / "c")
    whole = (place / "test_batch").read_bytes()
    (place / "test_batch").write_bytes(whole[:-1000])
    with pytest.raises(FormatError, match="test_batch is not as CIFAR's authors wrote it"):
        open_data(str(place))
    for names in ("abc", [1, 2, 3]):
        (place / "batches.meta").write_bytes(python_2_pickle({"label_names": names}))
        with pytest.raises(FormatError, match="its label_names are no names"):
            open_data(str(place))


@pytest.mark.parametrize("labels", [[1, 1], []])
def test_what_nothing_can_be_learned_from(tmp_path: Path, labels: Sequence[int]) -> None:
    part = _data(len(labels), 3072), labels
    place = cifar100(tmp_path / "c", NAMES, part, part)
    with pytest.raises(SourceError, match=r"one class only, automobile|labels are int64\[0\]"):
        open_data(str(place))
