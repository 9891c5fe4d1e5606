import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from edgeport.runtimes import FormatError, StorageError, UsageError
from edgeport.training import DataSet, Epoch, History, Settings, Split, fit
from edgeport.training.fitting import loop


def module() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))


def interrupted(stop: int) -> Any:
    def on_epoch(epoch: Epoch) -> None:
        if epoch.number == stop:
            raise KeyboardInterrupt

    return on_epoch


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_CHECKPOINT_EVERY_S", -1.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"optimizer": "AdamW"},
        {"optimizer": "SGD", "options": {"momentum": 0.9}, "schedule": "plateau"},
        {"optimizer": "LBFGS", "batch_size": None, "learning_rate": 0.5},
        {"optimizer": "RMSprop", "patience": 2, "schedule": "one-cycle"},
        {"initialisation": "orthogonal", "clip_norm": 0.5},
    ],
    ids=str,
)
def test_it_goes_on_bit_for_bit(line: DataSet, tmp_path: Path, changed: dict[str, Any]) -> None:
    settings = Settings(**{"epochs": 6, "batch_size": 7, "learning_rate": 0.05, **changed})
    whole = module()
    expected = fit(whole, line, settings)
    part, file = module(), tmp_path / "state"
    if len(expected.epochs) > 3:
        first = fit(part, line, settings, on_epoch=interrupted(3), checkpoint=file)
        assert len(first.epochs) == 3
    resumed = module()
    torch.rand(17)  # another state of the caller's generator
    found = fit(resumed, line, settings, checkpoint=file)
    assert found == expected
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


def test_an_interrupt_right_behind_it_leaves_its_weights(line: DataSet, tmp_path: Path) -> None:
    settings, file = Settings(6, 7, 0.05), tmp_path / "state"
    part, resumed = module(), module()
    fit(part, line, settings, on_epoch=interrupted(2), checkpoint=file)

    def in_the_next_epoch(done: int, planned: int, cost: float) -> None:
        if done % 6 == 3:
            raise KeyboardInterrupt

    found = fit(resumed, line, settings, on_batch=in_the_next_epoch, checkpoint=file)
    assert len(found.epochs) == 2
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, part.state_dict()[name]), name


def in_step(stop: int) -> Any:
    def on_batch(done: int, planned: int, cost: float) -> None:
        if done == stop:
            raise KeyboardInterrupt

    return on_batch


def test_an_interrupt_writes_the_last_whole_epoch(
    line: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_CHECKPOINT_EVERY_S", 3600.0)
    settings, file = Settings(6, 7, 0.05, optimizer="AdamW"), tmp_path / "state"
    whole, part, resumed = module(), module(), module()
    expected = fit(whole, line, settings)
    steps = 6
    first = fit(part, line, settings, on_batch=in_step(3 * steps + 2), checkpoint=file)
    assert len(first.epochs) == 3
    assert torch.equal(load_file(file)["module.0.weight"], part.state_dict()["0.weight"])
    assert fit(resumed, line, settings, checkpoint=file) == expected
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_second_interrupt_or_a_full_disk_leaves_the_older_file(
    line: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    settings, file, module_ = Settings(6, 7, 0.05), tmp_path / "state", module()
    fit(module_, line, settings, on_epoch=interrupted(1), checkpoint=file)
    before = file.read_bytes()
    monkeypatch.setattr(loop, "_CHECKPOINT_EVERY_S", 3600.0)

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr("edgeport.runtimes.files.os.fsync", fail)
    history = fit(module_, line, settings, on_epoch=interrupted(3), checkpoint=file)
    assert len(history.epochs) == 3
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_done_is_not_done_again(line: DataSet, tmp_path: Path) -> None:
    settings, file = Settings(3, 7, 0.05), tmp_path / "state"
    first = fit(module(), line, settings, checkpoint=file)
    steps: list[int] = []

    def count(done: int, planned: int, cost: float) -> None:
        steps.append(done)

    again = module()
    assert fit(again, line, settings, checkpoint=file, on_batch=count) == first
    assert steps == []


def test_early_stopping_restores_the_best(line: DataSet) -> None:
    trained = module()
    kept: list[tuple[float, dict[str, torch.Tensor]]] = []

    def keep(epoch: Epoch) -> None:
        state = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
        kept.append((epoch.held_out_cost, state))

    settings = Settings(200, 7, 0.3, patience=4, schedule="constant")
    history: History = fit(trained, line, settings, on_epoch=keep)
    assert history.stopped_early
    assert history.completed
    cost, best = min(kept, key=lambda pair: pair[0])
    assert history.kept.held_out_cost == cost
    assert len(history.epochs) == history.kept.number + 4
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, best[name])


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_more_epochs_follow_where_no_step_hangs_on_their_number(
    line: DataSet, tmp_path: Path, schedule: str
) -> None:
    settings, file = Settings(6, 7, 0.05, schedule=schedule), tmp_path / "state"
    whole, resumed = module(), module()
    expected = fit(whole, line, settings)
    fit(module(), line, replace(settings, epochs=2), checkpoint=file)
    assert fit(resumed, line, settings, checkpoint=file) == expected
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name
    with pytest.raises(UsageError, match=r"has 6 epochs behind it, 5 are asked for") as caught:
        fit(module(), line, replace(settings, epochs=5), checkpoint=file)
    assert "ask for 6 or more" in caught.value.remedy


def test_no_epochs_follow_the_end_of_a_schedule(line: DataSet, tmp_path: Path) -> None:
    file = tmp_path / "state"
    fit(module(), line, Settings(1, 7, 0.05), checkpoint=file)
    with pytest.raises(UsageError, match=r"a cosine schedule reaches its end with the") as caught:
        fit(module(), line, Settings(2, 7, 0.05), checkpoint=file)
    assert "--schedule constant or plateau" in caught.value.remedy


def test_other_settings_are_refused(line: DataSet, tmp_path: Path) -> None:
    file = tmp_path / "state"
    fit(module(), line, Settings(1, 7, 0.05), checkpoint=file)
    with pytest.raises(UsageError, match=r"with learning_rate 0\.05, this one has 0\.1"):
        fit(module(), line, Settings(1, 7, 0.1), checkpoint=file)
    with pytest.raises(UsageError, match="is the checkpoint of another module: Error"):
        fit(nn.Linear(2, 1), line, Settings(1, 7, 0.05), checkpoint=file)


@pytest.mark.parametrize(
    "changed", [{"sha256": "0" * 64}, {"split": Split(0.5, 42, stratified=False)}], ids=str
)
def test_other_data_are_refused(line: DataSet, tmp_path: Path, changed: dict[str, Any]) -> None:
    file, settings = tmp_path / "state", Settings(1, 7, 0.05)
    fit(module(), line, settings, checkpoint=file)
    other = replace(line, origin=replace(line.origin, **changed))
    with pytest.raises(
        UsageError, match=f"is of a training on other data, or .* of {line.origin.name}"
    ):
        fit(module(), other, settings, checkpoint=file)


@pytest.mark.parametrize("random", [None, torch.zeros(3, dtype=torch.uint8), torch.zeros(5056)])
def test_a_random_state_that_is_none(
    line: DataSet, tmp_path: Path, random: torch.Tensor | None
) -> None:
    file = tmp_path / "state"
    fit(module(), line, Settings(1, 7, 0.05), checkpoint=file)
    with safe_open(str(file), "pt") as opened:
        told = opened.metadata()
    tensors = load_file(file)
    del tensors["random"]
    save_file(tensors | ({} if random is None else {"random": random}), file, told)
    with pytest.raises(FormatError, match="is not a checkpoint of edgeport"):
        fit(module(), line, Settings(1, 7, 0.05), checkpoint=file)


def test_a_gpu_that_has_no_room_for_it(
    line: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state"
    fit(module(), line, Settings(1, 7, 0.05), checkpoint=file)

    def fails(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "load_state_dict", fails)
    with pytest.raises(torch.OutOfMemoryError):
        fit(module(), line, Settings(1, 7, 0.05), checkpoint=file)


@pytest.mark.parametrize("content", [b"", b"no", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_none(line: DataSet, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "state"
    file.write_bytes(content)
    with pytest.raises(FormatError, match=re.escape(f"{file} is not a checkpoint of edgeport")):
        fit(module(), line, Settings(1, 7, 0.05), checkpoint=file)


def test_a_folder_where_the_file_should_be(line: DataSet, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=re.escape(f"cannot read the checkpoint {tmp_path}: ")):
        fit(module(), line, Settings(1, 7, 0.05), checkpoint=tmp_path)


def test_it_holds_no_pickle(line: DataSet, tmp_path: Path) -> None:
    fit(module(), line, Settings(1, 7, 0.05), checkpoint=tmp_path / "state")
    content = (tmp_path / "state").read_bytes()
    assert int.from_bytes(content[:8], "little") < len(content)  # safetensors
    assert content[8:9] == b"{"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["state"]
