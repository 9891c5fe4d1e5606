"""Torch on a device: what it has, what it says where it has none."""

import numpy as np
import pytest
import torch

from edgeport.runtimes import (
    BackendMissingError,
    ContractError,
    Options,
    Signature,
    TensorSpec,
)
from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.libtorch.device import (
    GpuChoices,
    _own_choices,
    require_all_on,
    require_kernels,
    require_torch_device,
)
from edgeport.runtimes.libtorch.session import TorchSession

needs_no_cuda = pytest.mark.skipif(
    torch.version.cuda is not None, reason="this torch was built with CUDA"
)


def test_the_cpu_is_always_there() -> None:
    for asked in (None, "cpu"):
        assert require_torch_device(asked) == torch.device("cpu")


@needs_no_cuda
@pytest.mark.parametrize("asked", ["cuda", "cuda:3"])
def test_a_torch_without_cuda(asked: str) -> None:
    problem = rf"torch [\d.]+\+cpu was built without CUDA, so it cannot run on {asked}\n  fix: inst"
    with pytest.raises(BackendMissingError, match=problem):
        require_torch_device(asked)


@needs_no_cuda
def test_a_torch_that_cannot_use_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")  # what torch itself says then is real
    with pytest.raises(
        BackendMissingError, match=r"torch \S+ cannot use CUDA: Torch not compiled with CUDA"
    ) as caught:
        require_torch_device("cuda")
    assert caught.value.remedy == "edgeport doctor shows the driver and the GPUs of this machine"


def test_a_device_that_does_not_compute() -> None:
    require_kernels(torch.device("cpu"))
    with pytest.raises(
        BackendMissingError, match=r"^torch \S+ cannot compute on meta: .*\n  fix: e"
    ):
        require_kernels(torch.device("meta"))  # which gives no values


def test_tf32_is_off_on_a_gpu_and_the_process_is_left_as_it_was() -> None:
    before = _own_choices()
    assert "tf32" in before  # torch lets cuDNN use it if nobody says otherwise
    gpu = torch.device("cuda", 0)
    for asked in (False, True):
        choices = GpuChoices(gpu, GpuOptions(tf32=asked))
        assert choices.tf32 is asked
        choices.restore()
        assert _own_choices() == before
    assert not GpuChoices(torch.device("cpu"), GpuOptions()).tf32
    assert _own_choices() == before
    assert torch.backends.cudnn.allow_tf32  # the older name can still be read


def test_sessions_that_end_in_the_order_of_their_begin_leave_tf32_as_it_was() -> None:
    before, gpu = _own_choices(), torch.device("cuda", 0)
    older = GpuChoices(gpu, GpuOptions())
    newer = GpuChoices(gpu, GpuOptions())
    older.restore()
    assert not newer.tf32
    newer.restore()
    assert _own_choices() == before


def test_tf32_that_somebody_else_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, before = torch.device("cuda", 0), torch.backends.fp32_precision  # type: ignore[attr-defined]  # untyped
    torch.backends.fp32_precision = "tf32"  # type: ignore[attr-defined]  # untyped
    try:
        with pytest.raises(ContractError, match="with tf32=False were asked for, and torch says"):
            GpuChoices(gpu, GpuOptions())
    finally:
        torch.backends.fp32_precision = before  # type: ignore[attr-defined]  # untyped
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(ContractError, match="NVIDIA_TF32_OVERRIDE makes it TF32\n  fix: unset NVI"):
        GpuChoices(gpu, GpuOptions())


def test_tensors_that_are_somewhere_else() -> None:
    there = [torch.empty(1), torch.empty(1, device="meta")]
    require_all_on(torch.device("cpu"), "model.ts", there[:1])
    with pytest.raises(ContractError, match=r"model.ts was to be on cpu, and has tensors on meta"):
        require_all_on(torch.device("cpu"), "model.ts", there)


def test_an_output_that_was_computed_somewhere_else() -> None:
    spec = TensorSpec("x", "float32", (2,)), TensorSpec("y", "float32", (2,))
    session = TorchSession(
        "libtorch", lambda x: x.to("meta"), Signature(spec[:1], spec[1:]), Options(threads=1)
    )
    with (
        session,
        pytest.raises(
            ContractError, match=r"'y' was computed on meta, not on cpu\n  fix: make new tensors"
        ),
    ):
        session.run({"x": np.zeros(2, np.float32)})
