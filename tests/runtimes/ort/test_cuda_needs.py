"""What a library that was built for CUDA needs of a machine."""

import pytest

from edgeport.runtimes import BackendMissingError
from edgeport.runtimes.cuda.gpus import Gpus
from edgeport.runtimes.ort.cuda_needs import require_cuda, require_gpu

FOUND = Gpus((12, 4), ("NVIDIA Something", "NVIDIA Another"), ("8.6", "8.9"))


def test_a_driver_that_is_too_old() -> None:
    with pytest.raises(
        BackendMissingError,
        match=r"onnxruntime 1\.2, built with CUDA 13\.0, needs a newer NVIDIA driver: this one "
        r"runs CUDA up to 12\.4\n  fix: update the driver, or install a build for CUDA 12",
    ):
        require_cuda(FOUND, "onnxruntime 1.2", "13.0", [], "pip install it")


@pytest.mark.parametrize("built_with", ["12.8", "12.0", "11.8", ""])
def test_minor_versions_fit_one_another(built_with: str) -> None:
    require_cuda(FOUND, "onnxruntime 1.2", built_with, ["libc.so.6"], "pip install it")


def test_libraries_that_are_missing_are_all_named() -> None:
    names = ["libc.so.6", "libcublasLt.so.99", "libcublas.so.99", "libcudnn.so.99", "libodd.so.9"]
    with pytest.raises(
        BackendMissingError,
        match=r"onnxruntime 1\.2 needs cuBLAS, cuDNN, libodd\.so\.9, which cannot be loaded: "
        r"libcublasLt\.so\.99, libcublas\.so\.99, libcudnn\.so\.99, libodd\.so\.9\n"
        r"  fix: pip install it; or put the folder that has it into LD_LIBRARY_PATH",
    ):
        require_cuda(FOUND, "onnxruntime 1.2", "12.8", names, "pip install it")


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [require_gpu(device, FOUND) for device in (None, "cuda", "cuda:1")] == [0, 0, 1]
    with pytest.raises(
        BackendMissingError, match=r"there is no cuda:2: .* there is 2, cuda:0 to cu"
    ):
        require_gpu("cuda:2", FOUND)
