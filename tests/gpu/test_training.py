"""``edgeport train --device cuda``, on a GPU: ``pytest -m gpu tests/gpu/test_training.py``."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgeport.__main__ import main
from edgeport.runtimes import BackendMissingError, OutOfMemoryError, UsageError
from edgeport.training import DataSet, Epoch, History, Labelled, Origin, Settings, Split, fit, load
from edgeport.training.device import device_name, require_device
from edgeport.training.fitting import loop

pytestmark = pytest.mark.gpu

SETTINGS = Settings(4, 32, 0.05, optimizer="SGD", options={"momentum": 0.9}, patience=3)


@pytest.fixture(scope="module")
def gpu() -> torch.device:
    try:
        return require_device("cuda")
    except BackendMissingError as e:
        pytest.skip(e.problem)


def made(features: int, rows: int, classes: int = 2) -> DataSet:
    """Of each class about as many rows, which a line parts."""
    x = np.random.default_rng(0).normal(size=(rows, features)).astype(np.float32)
    part = Labelled({"input": x}, (x[:, 0] > 0).astype(np.int64) * (classes - 1))
    held_out = part.rows(np.arange(min(rows, 64)))
    return DataSet(Origin("made", rows, "", Split(0.5, 0, stratified=False)), part, held_out)


def module(device: torch.device | str) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 2)]
    return nn.Sequential(*layers).to(device)


def costs(history: History) -> list[float]:
    return [epoch.held_out_cost for epoch in history.epochs]


def train(output: Path, *arguments: str) -> int:
    more = ["--epochs", "2", "--optimizer", "SGD", "--lr", "0.05", "--init", "kaiming"]
    return main(["train", "digits", "-o", str(output), *more, *arguments])


def test_it_learns_what_the_cpu_learns_and_repeats_it(gpu: torch.device, tmp_path: Path) -> None:
    for name, device in (("cpu", "cpu"), ("gpu", "cuda"), ("again", "cuda:0")):
        assert train(tmp_path / name, "--device", device) == 0
    near, far = load(tmp_path / "cpu"), load(tmp_path / "gpu")
    assert (near.history.device, far.history.device) == ("cpu", device_name(gpu))
    assert costs(far.history) == pytest.approx(costs(near.history), rel=1e-2)
    assert {p.device.type for p in far.module.parameters()} == {"cpu"}
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("gpu", "again")]
    assert weights[0] == weights[1]


def test_tf32_is_asked_for(gpu: torch.device, tmp_path: Path) -> None:
    assert train(tmp_path / "run", "--device", "cuda", "--tf32") == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["settings"]["tf32"] is True


def test_a_learning_rate_is_found(gpu: torch.device, tmp_path: Path) -> None:
    assert train(tmp_path / "run", "--device", "cuda", "--find-lr") == 0


def test_it_goes_on_bit_for_bit(
    gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_CHECKPOINT_EVERY_S", -1.0)
    data, file = made(8, 200), tmp_path / "state"

    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    whole, part, resumed = module(gpu), module(gpu), module(gpu)
    expected = fit(whole, data, SETTINGS)
    fit(part, data, SETTINGS, on_epoch=stop, checkpoint=file)
    torch.rand(17, device=gpu)  # another state of the caller's generator
    before = torch.cuda.get_rng_state(gpu)
    assert fit(resumed, data, SETTINGS, checkpoint=file) == expected
    assert torch.equal(torch.cuda.get_rng_state(gpu), before)
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name
    assert {tensor.device.type for tensor in load_file(file).values()} == {"cpu"}
    with pytest.raises(UsageError, match=r"is of a training on cuda \(.*\), and cpu rounds in an"):
        fit(module("cpu"), data, SETTINGS, checkpoint=file)


def test_the_data_are_not_all_on_the_gpu(gpu: torch.device) -> None:
    data = made(4096, 32768)  # 512 MiB; cuBLAS takes some tens for itself
    torch.manual_seed(0)
    layer = nn.Linear(4096, 2).to(gpu)
    torch.cuda.reset_peak_memory_stats(gpu)
    before = torch.cuda.memory_allocated(gpu)
    fit(layer, data, Settings(1, 64, 1e-3))
    assert torch.cuda.max_memory_allocated(gpu) - before < 2**28


def test_a_memory_that_is_too_small(gpu: torch.device) -> None:
    data = made(16, 4096, classes=65536)
    layer = nn.Linear(16, 65536).to(gpu)
    total = torch.cuda.get_device_properties(gpu).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**29 / total, gpu)
    try:
        with pytest.raises(
            OutOfMemoryError, match=r"^cuda:0 is out of memory: .*\n  fix: take few"
        ):
            fit(layer, data, Settings(1, None, 1e-3))  # 1 GiB of logits
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, gpu)
