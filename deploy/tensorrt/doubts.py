"""What TensorRT changes or doubts without refusing it, told to the user."""

from pathlib import Path

import onnx

from edgeport.deploy.compilers.onnx_files.onnx_messages import uses
from edgeport.runtimes.tensorrt.order import Built


def narrowed(format_: str, path: Path) -> list[str]:
    """TensorRT has no float64, and does not say so."""
    if not uses(onnx.load(path, load_external_data=False), onnx.TensorProto.DOUBLE):
        return []
    return [
        f"{format_}: the module computes in float64 inside, and TensorRT has none: the "
        "engine computes it in float32"
    ]


def warned(format_: str, answer: Built) -> list[str]:
    """What the library said of this engine; that int64 stays int64 is no news."""
    news = (text for text in answer.warnings if not text.endswith("Int64 binding."))
    return [f"{format_}: {text}" for text in news]
