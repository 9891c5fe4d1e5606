"""What ONNX Runtime says when a GPU fails it, told apart by CUDA's code or by the words it uses."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from edgeport.runtimes.cuda.failures import KNOWN
from edgeport.runtimes.cuda.failures import failure as by_code
from edgeport.runtimes.errors import (
    BackendMissingError,
    EdgeportError,
    EngineError,
    OutOfMemoryError,
    first_line,
)

from .loading import failed

_CODE: Final = re.compile(r"CUDA failure (\d+): ([^;\n]*)")
_OLD_DRIVER: Final = (35, 36)  # cudaErrorInsufficientDriver, cudaErrorCallRequiresNewerDriver

_MEMORY: Final = (
    "Failed to allocate memory",  # its arena, at a limit too
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_CUDNN: Final = ("cuDNN library was not found", "cuDNN is unavailable", "libcudnn")
_CAPTURE: Final = ("cudaErrorStreamCapture", "stream is capturing", "CUDA Graph", "cuda graph")


def failure(
    error: BaseException, device: str, *, limited: bool, otherwise: EngineError | None = None
) -> EdgeportError:
    """The error to raise for one of ONNX Runtime's.

    Args:
        error: What it raised.
        device: Where, such as ``"cuda:0"``.
        limited: Whether its memory was limited.
        otherwise: What to raise if it is no failure of a GPU; ``None`` for that of any run.
    """
    text = str(error)
    code = _CODE.search(text)
    said = code[0].strip() if code else first_line(Exception(text))[:300]
    if any(words in text for words in _CAPTURE):
        return EngineError(
            f"the model cannot be recorded as a CUDA graph on {device}: {said}",
            remedy="leave the CUDA graph out",
        )
    if any(words in text for words in _MEMORY) or (code and code[1] == "2"):
        more = "raise --gpu-memory, or " if limited else ""
        return OutOfMemoryError(
            f"{device} is out of memory: {said}",
            remedy=f"{more}use smaller inputs, or end what else uses the GPU: nvidia-smi lists it",
        )
    if any(words in text for words in _CUDNN):
        return BackendMissingError(
            f"cuDNN cannot be used on {device}: {said}",
            remedy="pip install 'onnxruntime-gpu[cudnn]'",
        )
    if code and int(code[1]) in _OLD_DRIVER:
        return BackendMissingError(
            f"the NVIDIA driver is too old for this onnxruntime, or sees no GPU: {said}",
            remedy="edgeport doctor shows which CUDA the driver runs",
        )
    if code and int(code[1]) in KNOWN:
        in_use = otherwise is None  # a run, not the start of one
        known: Any = by_code(int(code[1]), said, f"compute on {device}", in_use=in_use)
        return cast(EdgeportError, known)  # pyright takes .errors for another module
    return otherwise or failed(Exception(text))
