import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_sets import mnist
from PIL import Image
from torch import nn

from edgeport.runtimes import EdgeportError, UsageError
from edgeport.training.data import (
    DataSet,
    Labelled,
    Split,
    image_folder,
    images,
    one_size,
    open_data,
    repeated,
)
from edgeport.training.models import Staged, core_data
from edgeport.training.vision import Preprocess


def photos(folder: Path, *sizes: tuple[int, int]) -> Path:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index, (height, width) in enumerate(sizes):
            pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def test_images_of_one_size_are_one_array(tmp_path: Path) -> None:
    data = open_data(str(photos(tmp_path / "pets", *[(6, 5)] * 5)))
    assert data.origin.classes == ("cat", "dog")
    assert data.origin.schema == {"image": "uint8 RGB, 6x5"}
    assert data.train.inputs["image"].shape == (8, 6, 5, 3)
    assert data.train.inputs["image"].dtype == np.uint8
    one_size(data)


def test_images_of_several_sizes_are_an_array_of_arrays(tmp_path: Path) -> None:
    data = image_folder(photos(tmp_path / "pets", (6, 5), (7, 9), (3, 3)))
    assert data.train.inputs["image"].dtype == object
    assert {image.ndim for image in data.train.inputs["image"]} == {3}
    with pytest.raises(EdgeportError, match="has images of several sizes"):
        one_size(data)
    again = image_folder(tmp_path / "pets")
    assert again.origin.sha256 == data.origin.sha256


def test_images_that_the_memory_has_no_room_for_stay_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "pets", *[(6, 5)] * 5)
    there = image_folder(tmp_path / "pets")
    monkeypatch.setattr(images, "LARGEST_DECODED", 3 * 6 * 5 * 4)
    files = image_folder(tmp_path / "pets")
    assert files.origin.sha256 == there.origin.sha256
    assert {type(one) for one in files.train.inputs["image"]} == {images.ImageFile}
    kept = files.held_out.decoded().inputs["image"]
    assert np.array_equal(np.stack(list(kept)), there.held_out.inputs["image"])
    module = Staged(Preprocess("image", 4, 3), nn.Linear(27, 2))
    whole, one_by_one = (core_data(module, data).train.inputs["input"] for data in (there, files))
    np.testing.assert_allclose(whole, one_by_one, rtol=1e-5, atol=1e-6)
    one_size(files)
    assert files.origin.schema == {"image": "uint8 RGB, 6x5"}
    Image.new("RGB", (6, 5)).save(tmp_path / "pets" / "dog" / "9.png")
    with pytest.raises(EdgeportError, match="'image' in pets has images of several sizes"):
        one_size(image_folder(tmp_path / "pets"))
    broken = tmp_path / "pets" / "dog" / "4.png"  # behind what its header says
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(EdgeportError, match=r"dog/4\.png cannot be read as an image: .*truncated"):
        image_folder(tmp_path / "pets")


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "gif"])
def test_the_size_of_a_turned_image_is_known_from_its_header(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8  # turned by a quarter
    Image.new("RGB", (6, 4)).save(tmp_path / f"a.{kind}", exif=exif)
    image = images.ImageFile(tmp_path / f"a.{kind}")
    assert image.shape == ((4, 6, 3) if kind == "gif" else (6, 4, 3))  # a GIF has no EXIF
    assert image.shape == np.asarray(image).shape


def test_grey_and_turned_images_are_read_as_a_person_sees_them(tmp_path: Path) -> None:
    photos(tmp_path / "pets", (4, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("L", (6, 4), 7).save(tmp_path / "pets" / "cat" / "1.jpg", exif=exif)
    data = image_folder(tmp_path / "pets")
    shapes = {i.shape for part in (data.train, data.held_out) for i in part.inputs["image"]}
    assert shapes == {(4, 6, 3), (6, 4, 3)}


def test_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    x = np.arange(40.0).reshape(10, 4)
    np.savez(path, x=x, image=np.zeros((10, 2, 2), np.uint8), y=np.arange(10) % 3)
    data = open_data(str(path), target="y")
    assert data.origin.schema == {"x": "float32[4]", "image": "uint8[2, 2]"}
    assert data.origin.classes == ("0", "1", "2")
    np.savez(path, x=x, y=np.linspace(0, 1, 10))
    assert not open_data(str(path), target="y").train.classification


@pytest.mark.parametrize(
    ("arrays", "target", "problem"),
    [
        ({"x": np.zeros((4, 1))}, "x", "has no array 'x' beside inputs"),
        ({"x": np.zeros((4, 1)), "y": np.arange(4)}, "z", "has no array 'z' beside inputs"),
        ({"x": np.zeros((4, 1)), "y": np.array(list("abcd"))}, "y", "'y' is <U1, expected"),
        ({"x": np.zeros((3, 1)), "y": np.arange(4)}, "y", "'x' has shape [3, 1], there are 4"),
        ({"x": np.array([[1], [np.nan]]), "y": np.arange(2)}, "y", "is not finite in example 1"),
        ({"x": np.zeros((4, 1)), "y": np.zeros(4)}, "y", "'y' is 0 in every example"),
        ({"x": np.zeros((4, 1)), "y": np.zeros(4, int)}, "y", "'y' holds one class only, 0"),
        (
            {"x": np.zeros((4, 1)), "y": np.array([0, 1, 2, 2**64 - 2], np.uint64)},
            "y",
            "'y' holds the class 18446744073709551614, expected at most 9223372036854775807",
        ),
        ({"x": np.zeros((4, 1)), "y": np.arange(4) - 1}, "y", "'y' holds the class -1"),
        (
            {"x": np.zeros((4, 1)), "y": np.arange(4) * 10**12},
            "y",
            "'y' holds the class 3000000000000",
        ),
        (
            {"x": np.zeros((4, 1)), "y": np.array([0, 1, 0, 0])},
            "y",
            "the class 1 of 'y' is in none",
        ),
        (
            {"x": np.zeros((2, 1)), "y": np.array([1, np.inf])},
            "y",
            "a.npz is not finite in example 1",
        ),
        (
            {"x": np.zeros((4, 1), "M8[s]"), "y": np.arange(4)},
            "y",
            "is datetime64[s][4, 1], expected",
        ),
        ({"x": np.zeros((4, 1), complex), "y": np.arange(4)}, "y", "is complex128[4, 1], expected"),
        ({"x": np.array(list("abcd")), "y": np.arange(4)}, "y", "is <U1[4], expected numbers"),
        (
            {"x": np.zeros((4, 0)), "y": np.arange(4)},
            "y",
            "[4, 0], which holds no number",
        ),
        ({"x": np.array([[1e300], [0]]), "y": np.arange(2)}, "y", "a.npz holds numbers beyond"),
        (
            {"x": 1e9 + np.arange(4.0), "y": np.arange(4)},
            "y",
            "between 1000000000 and 1000000003, ",
        ),
        (
            {"x": np.arange(4) * 1e-60, "y": np.arange(4)},
            "y",
            "and float32, which a model takes, r",
        ),
        ({"x": np.zeros((4, 1)), "y": np.eye(4)}, "y", "is [4, 4], expected one value per example"),
        (
            {"self": np.zeros((4, 1)), "y": np.arange(4)},
            "y",
            "an input is named 'self', as the mod",
        ),
        ({"x": np.zeros((1, 1)), "y": np.array([1])}, "y", "there is 1 example, expected at least"),
    ],
)
def test_arrays_that_do_not_fit(
    tmp_path: Path, arrays: dict[str, np.ndarray], target: str, problem: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]  # numpy's own stub
    with pytest.raises(EdgeportError, match=re.escape(problem)):
        open_data(str(tmp_path / "a.npz"), target=target)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([0, 1, 2], ()),
        ([1, 2, 3], ("'y' has no example of 1 of its 4 classes: 0; classes are numbered from 0",)),
        (
            [0, 13],
            ("'y' has no example of 12 of its 14 classes: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ",),
        ),
        (
            [0.0, 1.0],
            ("'y' holds 2 different whole numbers, taken as values; if they",),
        ),
        ([0.5, 1.0], ()),
    ],
)
def test_a_target_of_numbers_that_may_be_another_thing_is_told(
    tmp_path: Path, labels: list[float], told: tuple[str, ...]
) -> None:
    """Labels from 1 to 3 gave 4 classes, one without an example, and not a word."""
    x = np.arange(30, dtype=np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.resize(np.array(labels), 30))
    notes = open_data(str(tmp_path / "a.npz"), target="y").notes
    assert len(notes) == len(told)
    assert all(note.startswith(start) for note, start in zip(notes, told, strict=True))


def test_examples_that_are_in_both_parts_are_counted(tmp_path: Path) -> None:
    x = np.arange(4.0).reshape(2, 2)
    pair = Labelled({"x": x, "z": np.array([1, 2])}, np.array([0, 1]))
    other = Labelled({"x": x, "z": np.array([1, 3])}, np.array([1, 1]))
    origin = open_data("digits").origin
    assert repeated(DataSet(origin, pair, other)) == 1
    photos(tmp_path / "pets", (6, 5), (7, 9), (3, 3))
    data = image_folder(tmp_path / "pets")
    assert repeated(data) == 0
    assert repeated(DataSet(origin, data.train, data.train)) == len(data.train)


def test_parts_named_train_and_val_are_what_came_to_train_and_to_test_on(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    photos(folder / "train", (6, 5), (6, 5))
    photos(folder / "test", (6, 5))
    assert len(open_data(str(folder)).held_out) == 2
    photos(folder / "val", (7, 9), (3, 3), (6, 5))  # val is preferred, and of several sizes
    data = open_data(str(folder))
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.held_out.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.origin.split == Split(0.6, None, stratified=False)
    assert (data.origin.name, data.origin.classes) == ("pets", ("cat", "dog"))
    assert [image.shape[0] for image in data.train.inputs["image"]] == [6, 6, 6, 6]
    with pytest.raises(EdgeportError, match="pets comes with a part to test on, which is"):
        open_data(str(folder), how=Split(0.2, 42, stratified=False))
    (folder / "val" / "cat").rename(folder / "val" / "bird")
    with pytest.raises(EdgeportError, match=r"train has the classes cat, dog, .*val has bird, dog"):
        open_data(str(folder))


def test_classes_may_be_named_train_and_val(tmp_path: Path) -> None:
    photos(tmp_path, (6, 5), (6, 5))
    (tmp_path / "cat").rename(tmp_path / "train")
    (tmp_path / "dog").rename(tmp_path / "val")
    assert open_data(str(tmp_path)).origin.classes == ("train", "val")


def test_a_folder_of_data_sets_is_none(tmp_path: Path) -> None:
    images, labels = np.zeros((3, 2, 2)), np.arange(3)
    for name in ("KMNIST", "MNIST"):
        mnist(tmp_path / name / "raw", images, labels, images, labels)
    with pytest.raises(EdgeportError, match="holds 2 data sets: KMNIST, MNIST") as caught:
        open_data(str(tmp_path))
    assert caught.value.remedy == f"name one: --data {tmp_path / 'KMNIST'}"
    with pytest.raises(EdgeportError, match="comes with a part to test on") as caught:
        open_data(str(tmp_path / "MNIST"), how=Split(0.2, 42, stratified=False))
    assert caught.value.remedy == "leave --held-out and --stratify out"


def test_no_image_is_left_out_in_silence(tmp_path: Path) -> None:
    pets = photos(tmp_path / "pets", *[(2, 2)] * 5)
    (pets / "cat" / "._0.png").write_bytes(b"of macOS")
    (pets / ".cache").mkdir()
    assert open_data(str(pets)).origin.examples == 10
    (pets / "bird").mkdir()
    (pets / "bird" / "a.heic").touch()
    with pytest.raises(EdgeportError, match="pets/bird is a class without images"):
        open_data(str(pets))
    (pets / "bird").rename(pets / "cat" / "bird")
    assert open_data(str(pets)).origin.examples == 10
    (pets / "cat" / "0.png").rename(pets / "cat" / "bird" / "0.png")
    with pytest.raises(EdgeportError, match="cat is a class, and has a folder of images, bird"):
        open_data(str(pets))
    photos(tmp_path / "deep" / "Train", (2, 2))
    with pytest.raises(EdgeportError, match="Train is a class, and has a folder of images, cat"):
        open_data(str(tmp_path / "deep"))


def test_digits_are_held_out_as_asked() -> None:
    assert len(open_data("digits", how=Split(0.5, 42, stratified=True)).held_out) == 899
    with pytest.raises(EdgeportError, match="a split is drawn without a seed"):
        open_data("digits", how=Split(0.5, None, stratified=True))


def test_places_that_hold_no_data(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no")
    (tmp_path / "a.txt").touch()
    np.savez(tmp_path / "words.npz", x=np.zeros((2, 3), np.float32), y=np.array(["cat", "dog"]))
    (tmp_path / "words.csv").write_text("x,y\n1,cat\n2,dog\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "only" / "cat").mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(tmp_path / "only" / "cat" / "a.png")
    photos(tmp_path / "bad", (2, 2))
    (tmp_path / "bad" / "cat" / "9.png").write_bytes(b"no")
    photos(tmp_path / "deep", (2, 2))
    Image.fromarray(np.full((2, 2), 300, np.uint16)).save(tmp_path / "deep" / "cat" / "8.png")
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("a.npz", {"target": "y"}, "is not an .npz of plain arrays"),
        ("words.npz", {}, "words.npz?\n  fix: name it with --target: it has x, y"),
        ("words.csv", {}, "words.csv?\n  fix: name it with --target: it has x, y"),
        ("words.npz", {"target": "y"}, "'y' is <U3, expected integers or floats"),
        ("a.txt", {}, "is neither a .csv, a .tsv, an .npz nor a folder"),
        ("b.csv", {"target": "y"}, "no such file"),
        ("nowhere", {}, "no such data: "),
        ("only", {}, "has 1 folder with images, expected one per class, at least 2"),
        ("bad", {}, "9.png cannot be read as an image"),
        ("deep", {}, "8.png cannot be read as an image: its pixels have more than 8 bits (mode I"),
        ("bad", {"drop": ["x"]}, "has no columns"),
        ("bad", {"target": "x"}, "bad has images and their classes, and no column or array 'x'"),
        ("folder.csv", {"target": "x"}, "or give a .csv, .tsv or .npz file: this is a folder"),
        ("folder.csv", {}, "has 0 folders with images"),
    )
    for place, options, problem in cases:
        with pytest.raises(EdgeportError, match=re.escape(problem)):
            open_data(str(tmp_path / place), **options)
    with pytest.raises(UsageError, match="the columns of diabetes are read as the numbers that"):
        open_data("diabetes", categorical=["sex"])
    with pytest.raises(EdgeportError, match=r"no such folder: .*nowhere"):
        image_folder(tmp_path / "nowhere")
