"""Where a training computes, as far as that goes without a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgeport.runtimes import (
    BackendMissingError,
    ContractError,
    EngineError,
    OutOfMemoryError,
    UsageError,
)
from edgeport.training.device import computing_on, device_name, device_of, require_device

GPU = torch.device("cuda", 0)  # a name, which needs none

needs_no_cuda = pytest.mark.skipif(
    torch.version.cuda is not None, reason="this torch was built with CUDA"
)


def test_the_cpu() -> None:
    cpu = require_device("cpu")
    assert cpu == torch.device("cpu")
    assert device_name(cpu) == "cpu"
    assert device_of(torch.nn.ReLU()) == cpu
    with computing_on(cpu, tf32=False):
        assert torch.get_deterministic_debug_mode() == 0
    with (
        pytest.raises(
            UsageError, match=r"^TF32 was asked for, and the training is on cpu, .*\n  fix: ask fo"
        ),
        computing_on(cpu, tf32=True),
    ):
        pass


def test_a_name_of_no_device() -> None:
    with pytest.raises(
        UsageError, match=r"^there is no device 'gpu'\n  fix: use cpu, cuda or cuda:N"
    ):
        require_device("gpu")


@needs_no_cuda
def test_each_of_several_processes_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendMissingError, match="built without CUDA, so it cannot run on cuda\n"):
        require_device("cuda")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(BackendMissingError, match="so it cannot run on cuda:3\n"):
        require_device("cuda")
    with pytest.raises(UsageError) as caught:
        require_device("cuda:1")
    assert str(caught.value) == (
        "cuda:1 was asked for by each of 4 processes, and each needs a GPU of its own\n"
        "  fix: use --device cuda: each takes the GPU of its number; CUDA_VISIBLE_DEVICES chooses "
        "of them"
    )
    assert require_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("tf32", [False, True])
def test_a_gpu_computes_as_was_asked_and_the_same_every_time(tf32: bool) -> None:
    with computing_on(GPU, tf32=tf32):
        assert torch.backends.cuda.matmul.allow_tf32 is tf32
        assert torch.backends.cudnn.allow_tf32 is tf32
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert torch.backends.cudnn.allow_tf32  # as torch has it
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_environment_that_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with (
        pytest.raises(ContractError, match="NVIDIA_TF32_OVERRIDE makes it TF32"),
        computing_on(GPU, tf32=False),
    ):
        pass


def test_what_goes_wrong_on_a_gpu_is_told() -> None:
    said = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.78 GiB of "
        "which 1.01 GiB is free. Including non-PyTorch memory, this process has 6.70 GiB in use."
    )
    with pytest.raises(OutOfMemoryError) as caught, computing_on(GPU, tf32=False):
        raise torch.OutOfMemoryError(said)
    assert caught.value.problem.startswith("cuda:0 is out of memory: CUDA out of memory. Tried to")
    assert caught.value.remedy == (
        "take fewer examples in a step (--batch 16) or a smaller model, or end what else uses the "
        "GPU: nvidia-smi lists it"
    )
    with (
        pytest.raises(EngineError, match="torch failed on cuda:0: CUDA error: device-side assert"),
        computing_on(GPU, tf32=False),
    ):
        raise RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(RuntimeError, match="mat1 and mat2"), computing_on(GPU, tf32=False):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert not torch.are_deterministic_algorithms_enabled()


FAR_AWAY = """
import json, sys
from pathlib import Path
import far_device
import numpy as np
import torch
from safetensors.torch import load_file
from edgeport.runtimes import UsageError
from edgeport.training import DataSet, Settings, SmallCnn, digits, fit
from edgeport.training.fitting import loop, range_test

loop._CHECKPOINT_EVERY_S, file = -1.0, Path(sys.argv[1])
whole = digits()
data = DataSet(
    whole.origin, whole.train.rows(np.arange(150)), whole.held_out.rows(np.arange(50))
)
settings = Settings(
    3, 32, 0.05, optimizer="SGD", options={"momentum": 0.9}, initialisation="orthogonal",
    clip_norm=1.0, patience=1,
)


def module(device):
    torch.manual_seed(0)
    made = SmallCnn(2, 8)
    return made if device == "cpu" else made.to(device)


def trained(device, **more):
    made = module(device)
    far_device.moved_bytes.clear()
    found = fit(made, data, settings, **more)
    moved = max(far_device.moved_bytes, default=0)
    return found, {n: t.cpu().double() for n, t in made.state_dict().items()}, moved


def stop(epoch):
    raise KeyboardInterrupt


near, weights, _ = trained("cpu")
far, others, moved = trained("far")
trained("far", checkpoint=file, on_epoch=stop)
again, resumed, _ = trained("far", checkpoint=file)
try:
    trained("cpu", checkpoint=file)
except UsageError as e:
    refused = str(e)
rates = [range_test(module(d), data, settings, steps=10).suggested for d in ("cpu", "far")]
print(json.dumps({
    "devices": [near.device, far.device],
    "costs": [[epoch.held_out_cost for epoch in each.epochs] for each in (near, far)],
    "apart": max(float((weights[n] - others[n]).abs().max()) for n in weights),
    "moved": moved,
    "batch": 32 * data.train.inputs["image"][0].nbytes,
    "held_out": data.held_out.inputs["image"].nbytes,
    "goes_on": again == far and all(torch.equal(resumed[n], others[n]) for n in others),
    "saved_on": sorted({str(t.device) for t in load_file(file).values()}),
    "refused": refused,
    "rates": rates,
}))
"""


@pytest.mark.slow
def test_a_training_on_another_device(tmp_path: Path) -> None:
    """The device refuses tensors of the CPU, and is one that torch is told of in ``far_device``."""
    file = tmp_path / "state"
    command = [sys.executable, "-W", "error", "-c", FAR_AWAY, str(file)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["devices"] == ["cpu", "far"]
    near, far = found["costs"]
    assert far == pytest.approx(near, rel=1e-5)
    assert found["apart"] < 1e-5
    assert found["moved"] == max(found["batch"], found["held_out"])  # never all that is trained on
    assert found["goes_on"]
    assert found["saved_on"] == ["cpu"]
    assert found["refused"] == (
        f"{file} is of a training on far, and cpu rounds in another way: it would not go on bit "
        "for bit\n  fix: train where it began (--device), or remove the file to start again"
    )
    assert found["rates"][1] == pytest.approx(found["rates"][0])
