"""What ONNX Runtime says of a GPU's failures, in words that help.

The texts are of onnxruntime-gpu 1.31.1; those on memory and graphs are of its source.
"""

import pytest

from edgeport.runtimes import (
    BackendMissingError,
    EdgeportError,
    EngineError,
    LostGpuError,
    OutOfMemoryError,
)
from edgeport.runtimes.ort.cuda_failures import failure

DRIVER = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider_info.cc:63 static "
    "onnxruntime::CUDAExecutionProviderInfo onnxruntime::CUDAExecutionProviderInfo::"
    "FromProviderOptions(const onnxruntime::ProviderOptions&) [ONNXRuntimeError] : 1 : FAIL : "
    'provider_options_utils.h:187 Parse Failed to parse provider option "device_id": CUDA failure '
    "35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1 ; hostname=vm"
)
ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
    "Conv node. Name:'/c1/Conv' Status Message: bfc_arena.cc:376 AllocateRawInternal Failed to "
    "allocate memory for requested buffer of size 1073741824"
)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (DRIVER, BackendMissingError, "the NVIDIA driver is too old for this onnxruntime, or sees "
         "no GPU: CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version\n"
         "  fix: edgeport doctor"),
        (ARENA, OutOfMemoryError, r"cuda:1 is out of memory: \[ONNXRuntimeError\] .* 1073741824\n"
         "  fix: use smaller inputs, or end what else uses the GPU: nvidia-smi"),
        ("CUDA failure 2: out of memory ; GPU=0", OutOfMemoryError, "cuda:1 is out of memory: CU"),
        ("CUDA failure 209: no kernel image is available ; GPU=0", BackendMissingError,
         "cannot compute on cuda:1: there is no code for this GPU's compute capability in it"),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", LostGpuError,
         "cannot compute on cuda:1: a kernel touched memory that is not its own"),
        ("CUDA failure 36: API call is not supported in the installed CUDA driver ; GPU=0",
         BackendMissingError, "the NVIDIA driver is too old for this onnxruntime"),
        ("CUDA failure 716: misaligned address ; GPU=0", LostGpuError, "a kernel crashed"),
        ("CUDA failure 999: unknown error ; GPU=0", LostGpuError, "the GPU that was used is lost"),
        ("cuDNN is unavailable for CUDA Execution Provider: cuDNN library was not found",
         BackendMissingError, "cuDNN cannot be used on cuda:1: .*\n  fix: pip install 'onnxru"),
        ("CUDA failure 900: operation not permitted when stream is capturing ; GPU=0", EngineError,
         "cannot be recorded as a CUDA graph on cuda:1: CUDA failure 900: operation not permi"),
        ("Non-zero status code while running Gather", EngineError, "ONNX Runtime failed: Non-zero"),
    ],
)  # fmt: skip  # text and meaning side by side
def test_words(text: str, kind: type[EdgeportError], message: str) -> None:
    found = failure(RuntimeError(text), "cuda:1", limited=False)
    assert type(found) is kind
    with pytest.raises(kind, match=message):
        raise found


def test_a_limit_may_be_the_reason() -> None:
    found = failure(RuntimeError(ARENA), "cuda:0", limited=True)
    assert found.remedy.startswith("raise --gpu-memory, or use smaller inputs")


def test_what_is_no_failure_of_a_gpu_stays_as_it_was() -> None:
    own = EngineError("cannot open it", remedy="check it")
    assert failure(RuntimeError("bad file"), "cuda:0", limited=False, otherwise=own) is own


def test_a_driver_that_fails_at_the_start_has_lost_nothing() -> None:
    own = EngineError("cannot open it", remedy="check it")
    said = RuntimeError("CUDA failure 999: unknown error ; GPU=0")
    found = failure(said, "cuda:0", limited=False, otherwise=own)
    assert type(found) is BackendMissingError
