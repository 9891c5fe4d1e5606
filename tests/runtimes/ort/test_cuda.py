"""ONNX Runtime on a GPU, as far as that goes without one: nothing falls back in silence."""

import threading
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeport.runtimes import (
    BackendMissingError,
    ContractError,
    Options,
    Signature,
    TensorSpec,
    UsageError,
    open,
    probe,
)
from edgeport.runtimes.devices import GpuOptions
from edgeport.runtimes.ort import cuda
from edgeport.runtimes.ort.cpu_nodes import RECORD
from edgeport.runtimes.ort.loading import settings_of
from edgeport.runtimes.session import open_artefact

CPU_BUILD = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
on_cpu_build = pytest.mark.skipif(not CPU_BUILD, reason="this onnxruntime was built with CUDA")

FIXED = Signature((TensorSpec("x", "float32", (2, 8)),), (TensorSpec("logits", "float32", (2, 3)),))
FREE = Signature(
    (TensorSpec("x", "float32", ("batch", 8)),), (TensorSpec("y", "float32", ("batch", "time")),)
)


@on_cpu_build
def test_the_cpu_build_is_told_apart(packed: Path) -> None:
    found = probe("ort-cuda")
    assert not found.usable
    assert found.reason == "this build of onnxruntime has no CUDAExecutionProvider"
    assert found.remedy == "pip uninstall -y onnxruntime; pip install 'edgeport[cuda]'"
    for device in (None, "cuda", "cuda:1"):
        with pytest.raises(BackendMissingError, match=r"'ort-cuda' cannot be used here: this bui"):
            open_artefact(packed / "model.onnx", "ort-cuda", Options(device=device))
    with pytest.raises(BackendMissingError, match="'ort-cuda' cannot be used here"):
        open(packed, device="cuda")  # the backend follows from the device


@on_cpu_build
def test_a_session_without_the_provider_is_refused(packed: Path) -> None:
    """ONNX Runtime only warns, and goes on with the CPU."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Specified provider 'CUDAExecutionProvider'")
        with pytest.raises(
            ContractError, match="asked for CUDAExecutionProvider, got CPUExecutionProvider\n"
        ):
            cuda._open(packed / "model.onnx", Options(), {"device_id": "0"})


def test_tf32_that_the_environment_forces(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(
        ContractError, match="float32 was asked for, and NVIDIA_TF32_OVERRIDE makes it TF32\n"
    ):
        cuda._open(packed / "model.onnx", Options(), {"device_id": "0"})


def test_nodes_on_the_cpu_are_listed_or_accepted(packed: Path) -> None:
    path, settings = packed / "model.onnx", settings_of(Options(optimize=False))
    settings.add_session_config_entry(RECORD, "1")
    opened = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    nodes = ("Gemm", "Relu", "Gemm", "ArgMax")  # the file gives them no names
    with pytest.raises(
        ContractError,
        match="asked for CUDAExecutionProvider, but it has no kernel for 4 of the nodes of model, "
        "which run on the CPU: Gemm, Relu, Gemm, ArgMax\n  fix: accept them with --allow-cpu-nod",
    ):
        cuda._require_no_cpu_nodes(opened, path, "model", Options())
    allowed = Options(gpu=GpuOptions(allow_cpu_nodes=True))
    assert cuda._require_no_cpu_nodes(opened, path, "m.onnx", allowed) == nodes


def test_what_a_provider_is_asked_for() -> None:
    assert cuda.provider_options(Options(signature=FREE), 1) == {
        "device_id": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
        "enable_cuda_graph": "0",
    }
    gpu = GpuOptions(memory_bytes=2**30, tf32=True, cuda_graph=True)
    assert cuda.provider_options(Options(signature=FIXED, gpu=gpu), 0) == {
        "device_id": "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "1",
        "enable_cuda_graph": "1",
        "gpu_mem_limit": str(2**30),
        "arena_extend_strategy": "kSameAsRequested",
    }


class _Told:
    """What a session tells of its provider."""

    def __init__(self, **options: str) -> None:
        self._options = options

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {"CUDAExecutionProvider": self._options}


def test_options_are_read_back() -> None:
    asked = {"device_id": "0", "use_tf32": "0"}
    told = _Told(device_id="0", use_tf32="0", gpu_mem_limit="9")
    assert cuda._read_back(told, asked) == {**asked, "gpu_mem_limit": "9"}
    with pytest.raises(
        ContractError,
        match="asked CUDAExecutionProvider for use_tf32=0, got use_tf32=1\n  fix: install another",
    ):
        cuda._read_back(_Told(device_id="0", use_tf32="1"), asked)


def test_a_cuda_graph_needs_fixed_shapes() -> None:
    cuda.require_fixed(FIXED)
    with pytest.raises(
        UsageError, match="a CUDA graph needs fixed shapes, and batch, time may vary\n  fix: leave"
    ):
        cuda.require_fixed(FREE)


def test_too_little_memory_is_refused() -> None:
    with pytest.raises(UsageError, match="1000 bytes of a GPU's memory were asked for, expected 1"):
        GpuOptions(memory_bytes=1000)


@pytest.mark.parametrize(
    ("backend", "options", "problem"),
    [
        ("ort-cpu", Options(gpu=GpuOptions(tf32=True)), "ort-cpu runs on the CPU here, which take"),
        ("libtorch", Options(gpu=GpuOptions(memory_bytes=2**30)), "libtorch runs on the CPU here"),
        (
            "torch",
            Options(device="cuda", gpu=GpuOptions(cuda_graph=True)),
            "backend 'torch' records no CUDA graph\n  fix: use ort-cuda",
        ),
    ],
)
def test_what_a_backend_never_does(
    packed: Path, backend: str, options: Options, problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        open_artefact(packed / "model.onnx", backend, options)


@pytest.mark.gpu
def test_on_a_gpu(packed: Path) -> None:
    found = probe("ort-cuda")
    if not found.usable:
        pytest.skip(str(found.reason))
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    with open(packed, "ort-cpu") as session:
        expected = session.run({"x": x})
    gpu = GpuOptions(allow_cpu_nodes=True, memory_bytes=2**28)
    with open(packed, device="cuda:0", gpu=gpu) as session:
        assert session.engine.device == "cuda:0"
        assert session.engine.provider == "CUDAExecutionProvider"
        assert session.engine.precision == "float32"
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(session.run({"x": x}))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for answer in answers:
            np.testing.assert_allclose(answer["logits"], expected["logits"], rtol=1e-4, atol=1e-5)
        assert len(answers) == 8
    with pytest.raises(BackendMissingError, match="there is no cuda:99"):
        open(packed, device="cuda:99")
