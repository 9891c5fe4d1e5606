"""Image data sets that lie on disk, as a person trains on them."""

import json
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from image_sets import cifar10, mnist
from PIL import Image

from edgeport.__main__ import main
from edgeport.training import load, recipes
from edgeport.training.data import digits, images
from edgeport.training.models import staged


def test_a_cnn_on_files_of_mnist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = digits()
    arrays = []
    for part in (data.train, data.held_out):
        arrays += [part.inputs["image"][:, 0] * 255, part.labels]
    mnist(tmp_path / "MNIST" / "raw", *arrays, packed=True)
    asked = ["cnn", "--data", str(tmp_path / "MNIST"), "--epochs", "3", "--channels", "8"]
    assert main(["train", *asked, "-o", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert "training on 1,437 images of MNIST, 360 held out" in err
    assert " of 360), " in out
    made = load(tmp_path / "run")
    assert made.scores["accuracy"] > 0.9
    assert np.array_equal(made.held_out.inputs["image"], arrays[2].astype(np.uint8))
    split = json.loads((tmp_path / "run" / "run.json").read_text())["data"]["split"]
    assert split == {"test_size": 360 / 1797, "random_state": None, "stratified": False}
    assert "the part that the data come with is held out" in (
        tmp_path / "run" / "report.html"
    ).read_text(encoding="utf-8")


@pytest.mark.usually("mlp")
@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_colours_of_cifar(tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str) -> None:
    names = ("red", "green", "blue")
    drawn = np.random.default_rng(0)
    batches = []
    for _ in range(6):
        labels = np.arange(20) % 3
        planes = drawn.integers(0, 99, (20, 3, 1024), np.uint8)
        planes[np.arange(20), labels] += 156
        batches.append((planes.reshape(20, 3072), labels.tolist()))
    place = cifar10(tmp_path / "cifar-10-batches-py", names, *batches)
    asked = ["train", model, "--data", str(place), "--epochs", "4", "--json"]
    assert main([*asked, "-o", str(tmp_path / "run")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["data"], told["held_out_examples"]) == ("CIFAR10", 20)
    assert told["scores"]["accuracy"] == 1
    assert load(tmp_path / "run").origin.classes == names
    assert main([*asked, "--held-out", "0.3", "-o", str(tmp_path / "no")]) == 2
    assert "comes with a part to test on" in capsys.readouterr().err
    if model == "mlp":  # its batch is free in every format
        exported = ["export", str(tmp_path / "run"), "--format", "torchscript"]
        assert main([*exported, "-o", str(tmp_path / "a.edge")]) == 0


def test_what_the_memory_has_no_room_for_is_trained_on_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["train", "cnn", "--data", "digits", "--epochs", "1", "--channels", "4"]
    assert main([*asked, "-o", str(tmp_path / "memory")]) == 0
    monkeypatch.setattr(staged, "_memory_bytes", lambda: 300_000)
    assert main([*asked, "-o", str(tmp_path / "disk")]) == 0
    memory, disk = (load(tmp_path / name).module.state_dict() for name in ("memory", "disk"))
    assert all(torch.equal(memory[name], disk[name]) for name in memory)


def test_more_than_memory_and_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged, "_memory_bytes", lambda: 300_000)
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm/none")
    place = str(tmp_path / "run")
    assert main(["train", "cnn", "--data", "digits", "--epochs", "1", "-o", place]) == 2
    error = capsys.readouterr().err
    assert "1,437 examples of 256 bytes, as the network takes them, need 0.0 GB" in error
    assert "and there is no room in /dev/shm/none: No such file or directory" in error
    assert "name a larger place with TMPDIR" in error
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as a disk that others fill
    try:
        assert main(["train", "cnn", "--data", "digits", "--epochs", "1", "-o", place]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"there is no room in {tmp_path}: File too large" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_photos_of_one_size_that_stay_files(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: str,
) -> None:
    drawn = np.random.default_rng(0)
    for number, name in enumerate(("dark", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(10):
            pixels = drawn.integers(0, 128, (6, 5, 3), np.uint8) + np.uint8(128 * number)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    (tmp_path / "photos" / "dark" / "a.heic").touch()
    for name in ("b.png", "a.png"):
        Image.new("RGB", (6, 5)).save(tmp_path / "photos" / name)
    asked = ["train", model, "--data", str(tmp_path / "photos"), "--epochs", "3"]
    assert main([*asked, "-o", str(tmp_path / "array")]) == 0
    assert capsys.readouterr().err.startswith(
        f"left out 2 images in no folder of a class: {tmp_path / 'photos' / 'a.png'}, ...\n"
        f"left out 1 file of {tmp_path / 'photos'} whose name is that of no image which is read: "
        "dark/a.heic\n"
    )
    monkeypatch.setattr(images, "LARGEST_DECODED", 100)
    monkeypatch.setattr(recipes, "_KEPT_IMAGES", 3)
    assert main([*asked, "-o", str(tmp_path / "files")]) == 0
    array, files = (load(tmp_path / name) for name in ("array", "files"))
    assert (files.origin, files.scores["accuracy"]) == (array.origin, array.scores["accuracy"])
    assert np.array_equal(files.held_out.inputs["image"], array.held_out.inputs["image"][:3])
    for name, weights in array.module.state_dict().items():
        torch.testing.assert_close(files.module.state_dict()[name], weights)
