import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from edgeport.runtimes import (
    ExistingFileError,
    FormatError,
    MissingFileError,
    StorageError,
    files,
)
from edgeport.training import Run, check_place, load, save


@pytest.fixture
def path(made: Run, tmp_path: Path) -> Path:
    save(made, tmp_path / "runs" / "a")
    return tmp_path / "runs" / "a"


def entries(folder: Path) -> list[str]:
    return sorted(str(entry.relative_to(folder)) for entry in folder.rglob("*"))


def edit(file: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def test_held_out_arrays_of_any_layout_come_back(made: Run, tmp_path: Path) -> None:
    """safetensors writes wrong bytes for what is not contiguous."""
    inputs = {name: np.asfortranarray(array) for name, array in made.held_out.inputs.items()}
    save(replace(made, held_out=replace(made.held_out, inputs=inputs)), tmp_path / "a")
    back = load(tmp_path / "a").held_out.inputs
    np.testing.assert_array_equal(back["image"], made.held_out.inputs["image"])


def test_a_run_comes_back(made: Run, path: Path) -> None:
    back = load(path)
    assert (back.model, back.hyperparameters) == (made.model, made.hyperparameters)
    assert (back.origin, back.history, back.versions) == (made.origin, made.history, made.versions)
    assert back.parameters == made.parameters == 1482  # 40 + 8 + 296 + 16 + 1032 + 90
    assert not any(module.training for module in back.module.modules())
    assert all(parameter.requires_grad for parameter in back.module.parameters())
    wanted = made.module.state_dict()
    for name, tensor in back.module.state_dict().items():
        assert tensor.numpy().tobytes() == wanted[name].numpy().tobytes()
    image = torch.tensor(back.held_out.inputs["image"])
    with torch.no_grad():
        assert torch.equal(back.module(image), made.module(image))
        found = back.module(image).argmax(1).numpy()
    accuracy = back.history.epochs[-1].held_out_score
    assert float((found == back.held_out.labels).mean()) == accuracy


def test_what_is_in_the_folder(made: Run, path: Path) -> None:
    names = ["held_out.safetensors", "run.json", "weights.safetensors"]
    assert entries(path.parent.parent) == ["runs", "runs/a", *(f"runs/a/{name}" for name in names)]
    held_out = load_file(path / "held_out.safetensors")
    assert held_out["image"].tobytes() == made.held_out.inputs["image"].tobytes()
    assert held_out["labels"].tobytes() == made.held_out.labels.tobytes()
    text = (path / "run.json").read_text()
    record = json.loads(text)
    assert (record["completed"], record["epochs_done"], record["settings"]["epochs"]) == (
        False, 1, 2,
    )  # fmt: skip
    assert set(record["versions"]) == {"python", "edgeport", "torch", "numpy", "scikit-learn"}
    assert record["versions"]["torch"] == torch.__version__
    assert str(path.parent) not in text


def test_nothing_is_overwritten(made: Run, path: Path) -> None:
    for refused in (check_place, lambda place: save(made, str(place))):
        with pytest.raises(ExistingFileError, match=re.escape(f"{path} exists already")):
            refused(path)
    assert load(str(path)).history == made.history


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file is no folder, so .*file/run cannot be made"):
        check_place(tmp_path / "file" / "run")
    with pytest.raises(StorageError, match="File name too long"):
        check_place(tmp_path / ("x" * 250))
    assert entries(tmp_path) == ["file"]


def test_checking_a_place_leaves_it_free(made: Run, tmp_path: Path) -> None:
    check_place(tmp_path / "run")
    assert entries(tmp_path) == []


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_save_that_is_interrupted_leaves_nothing(
    made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real, written = files.write, []

    def write(file: Path, content: bytes | str) -> None:
        written.append(file)
        real(file, content)
        if len(written) == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "write", write)
    with pytest.raises(KeyboardInterrupt):
        save(made, tmp_path / "run")
    assert len(written) == number
    assert entries(tmp_path) == []


def test_what_is_not_there(path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such run: ") as caught:
        load(path / "absent")
    assert caught.value.remedy == "check the path; edgeport train makes runs"
    with pytest.raises(FormatError, match=r"is not a run: it has no run\.json"):
        load(path.parent)
    for name in ("weights.safetensors", "held_out.safetensors"):
        moved = (path / name).rename(path / "moved")
        with pytest.raises(MissingFileError, match=f"{name} is missing"):
            load(path)
        moved.rename(path / name)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("name", "os.system", "it names the model 'os.system', known are small_cnn"),
        ("name", "SmallCnn", "it names the model 'SmallCnn'"),
        ("hyperparameters", {"depth": 3}, "unexpected keyword argument 'depth'"),
        ("hyperparameters", {"channels": -4}, "no small_cnn has these hyperparameters: "),
        ("hyperparameters", {"channels": 10**15}, "no small_cnn has these hyperparameters: "),
        ("hyperparameters", {"channels": 10**30}, "no small_cnn has these hyperparameters: "),
        (
            "hyperparameters",
            {"channels": 10**7},
            "classifier.1.bias is float32[8], the model needs",
        ),
    ],
)
def test_a_model_that_cannot_be_made(path: Path, key: str, value: object, problem: str) -> None:
    edit(path / "run.json", lambda record: record["model"].update({key: value}))
    with pytest.raises(FormatError) as caught:
        load(path)
    assert "is damaged or was edited: " in caught.value.problem
    assert problem in caught.value.problem
    assert caught.value.remedy == "train again, or copy the whole run"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda w: w.update(extra=np.zeros(2, np.float32)),
            "extra is float32[2], the model needs absent",
        ),
        (
            lambda w: w.pop("features.0.bias"),
            "features.0.bias is absent, the model needs float32[4]",
        ),
        (
            lambda w: w.update({"features.0.bias": np.zeros(4)}),
            "features.0.bias is float64[4], the model needs float32[4]",
        ),
        (
            lambda w: w.update({"features.0.bias": np.zeros((4, 1), np.float32)}),
            "features.0.bias is float32[4, 1], the model needs float32[4]",
        ),
    ],
)
def test_weights_that_do_not_fit(path: Path, change: Callable[[Any], Any], problem: str) -> None:
    weights = load_file(path / "weights.safetensors")
    change(weights)
    save_file(weights, path / "weights.safetensors")
    with pytest.raises(FormatError, match=re.escape(problem)):
        load(path)


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"image": np.zeros((2, 1, 8, 8), np.float32)}, "it holds no labelled examples: 'labels'"),
        (
            {"image": np.zeros((2, 1, 8, 8), np.float32), "labels": np.zeros(3, np.int64)},
            "'image' has shape [2, 1, 8, 8], there are 3 labels",
        ),
        (
            {"picture": np.zeros((2, 1, 8, 8), np.float32), "labels": np.zeros(2, np.int64)},
            "its inputs are ['picture'], the model takes ['image']",
        ),
    ],
)
def test_held_out_examples_that_do_not_fit(
    path: Path, arrays: dict[str, np.ndarray], problem: str
) -> None:
    save_file(arrays, path / "held_out.safetensors")
    with pytest.raises(FormatError, match=re.escape(problem)):
        load(path)


@settings(max_examples=40)
@given(
    name=st.sampled_from(["weights.safetensors", "held_out.safetensors", "run.json"]),
    kept=st.floats(0, 1),
)
def test_a_file_that_was_cut(
    made: Run, tmp_path_factory: pytest.TempPathFactory, name: str, kept: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "run"
    save(made, path)
    whole = (path / name).read_bytes().strip()
    (path / name).write_bytes(whole[: int(kept * (len(whole) - 1))])
    with pytest.raises(FormatError, match=re.escape(name)):
        load(path)
