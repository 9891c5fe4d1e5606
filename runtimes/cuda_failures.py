"""What an engine says when a GPU fails it, told apart by the words that it uses."""

from __future__ import annotations

from typing import Final

from .errors import EngineError
from .ort_load import failed, first_line

_MEMORY: Final = (
    "out of memory",
    "Failed to allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Available memory of",
)
_NO_KERNEL: Final = ("no kernel image", "cudaErrorNoKernelImageForDevice", "unsupported gpu arch")
_CUDNN: Final = ("cuDNN library was not found", "cuDNN is unavailable", "libcudnn")
_CAPTURE: Final = ("captur", "StreamCapture", "cuda graph", "CUDA graph", "CUDA Graph")


def failure(
    error: BaseException, device: str, *, limited: bool, otherwise: EngineError | None = None
) -> EngineError:
    """The error to raise for one of ONNX Runtime's.

    Args:
        error: What it raised.
        device: Where, such as ``"cuda:0"``.
        limited: Whether its memory was limited.
        otherwise: What to raise if it is no failure of a GPU; ``None`` for that of any run.
    """
    text = " ".join(str(error).split())
    said = first_line(Exception(str(error)))[:400]
    if any(words in text for words in _MEMORY):
        more = "raise --gpu-memory, or " if limited else ""
        return EngineError(
            f"{device} is out of memory: {said}",
            remedy=f"{more}use smaller inputs, or end what else uses the GPU: nvidia-smi lists it",
        )
    if any(words in text for words in _NO_KERNEL):
        return EngineError(
            f"this build of onnxruntime has no code for {device}: {said}",
            remedy="install a build for this GPU's compute capability: edgeport doctor shows it",
        )
    if any(words in text for words in _CUDNN):
        return EngineError(
            f"cuDNN cannot be used on {device}: {said}",
            remedy="pip install 'onnxruntime-gpu[cudnn]'",
        )
    if any(words in text for words in _CAPTURE):
        return EngineError(
            f"the model cannot be captured as a CUDA graph on {device}: {said}",
            remedy="leave the CUDA graph out",
        )
    return otherwise or failed(Exception(str(error)))
