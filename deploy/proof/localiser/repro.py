"""The script and the arrays of a small case that shows a fault."""

import io
from collections.abc import Mapping
from typing import Final

import numpy as np

from edgeport.runtimes.inputs import Array

from .result import Localisation

_RUN: Final = {
    "onnx": """options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
model = ort.InferenceSession(here / "model.onnx", options, providers=["CPUExecutionProvider"])
actual = model.run(None, inputs)[0]""",
    "torchscript": """model = torch.jit.load(here / "model.ts")
actual = model(*map(torch.tensor, inputs.values())).numpy()""",
    "pt2": """model = torch.export.load(here / "model.pt2").module()
actual = model(*map(torch.tensor, inputs.values())).numpy()""",
}
_IMPORTS: Final = {
    "onnx": "import onnxruntime as ort",
    "torchscript": "import torch",
    "pt2": "import torch",
}
_NEEDS: Final = {"onnx": "onnxruntime", "torchscript": "torch", "pt2": "torch"}


def script(format_: str, told: Localisation) -> str:
    """The script, which needs numpy and the engine alone."""
    operator = f"{told.operator} {told.node or ''}".strip()
    return f'''"""{operator} ought to answer what {told.torch_operator} answers in {told.place}.

Needs numpy and {_NEEDS[format_]}.
"""

from pathlib import Path

import numpy as np
{_IMPORTS[format_]}

here = Path(__file__).parent
case = np.load(here / "inputs.npz")
inputs = {{name: case[name] for name in case.files if name.startswith("input_")}}
{_RUN[format_]}
eager, oracle = case["eager"], case["oracle"]
print("answer", actual.shape, "expected", eager.shape)
if actual.shape == eager.shape:
    print("largest difference from float64:", np.abs(actual - oracle).max())
    print("of which eager itself has:      ", np.abs(eager - oracle).max())
'''


def stored_arrays(
    inputs: Mapping[str, Array], expected: tuple[Array, Array | None], actual: Array
) -> bytes:
    """``inputs.npz``: ``input_0``, ... and what is expected, as ``eager`` and ``oracle``."""
    eager, oracle = expected
    shape = actual.shape if actual.size == eager.size else eager.shape
    buffer = io.BytesIO()
    answers = {
        "eager": eager.reshape(shape),
        "oracle": (eager if oracle is None else oracle).reshape(shape),
    }
    np.savez(buffer, **inputs, **answers)  # type: ignore[arg-type]  # numpy 2.3 has allow_pickle among them
    return buffer.getvalue()
