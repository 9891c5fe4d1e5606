"""bfloat16 in a graph: put in for TensorRT, taken out for ONNX Runtime, which lacks it on the CPU.

float32 holds all values of bfloat16, so what is widened is at least as near to the truth.
"""

from collections.abc import Mapping
from typing import Final

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import DTypeLike
from onnx import TensorProto, numpy_helper

from edgeport.deploy.compilers.onnx_files.onnx_messages import DTYPE_ATTRIBUTES, messages
from edgeport.runtimes.inputs import Array

_DTYPES: Final[Mapping[int, DTypeLike]] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
}
_LARGEST: Final = float.fromhex("0x1.fep127")
"""In bfloat16."""


def widen_bfloat16(model: onnx.ModelProto) -> bool:
    """Replace bfloat16 everywhere in a model by float32; return whether there was any."""
    return replace_dtype(model, TensorProto.BFLOAT16, TensorProto.FLOAT)


def put_in_bfloat16(model: onnx.ModelProto) -> None:
    """Replace float16 everywhere in a model by bfloat16."""
    replace_dtype(model, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def cut_tensor(tensor: onnx.TensorProto, *_: float) -> onnx.TensorProto:
    """Put a tensor of float32 in bfloat16, and leave any other as it is.

    What is finite stays so: of the lowest float32, with which masks are filled, rounding makes
    -Inf, and of a row of these softmax makes NaN.
    """
    if tensor.data_type == TensorProto.FLOAT:
        values = numpy_helper.to_array(tensor)
        held = np.where(np.isinf(values), values, np.clip(values, -_LARGEST, _LARGEST))
        _put(tensor, held.astype(ml_dtypes.bfloat16))
    return tensor


def replace_dtype(model: onnx.ModelProto, old: int, new: int) -> bool:
    """Put a dtype in the place of another; return whether that was anywhere."""
    found = False
    for message in list(messages(model)):
        match message.DESCRIPTOR.name:
            case "TensorProto" if message.data_type == old:
                _put(message, numpy_helper.to_array(message).astype(_DTYPES[new]))
            case "Tensor" if message.elem_type == old:  # TypeProto.Tensor
                message.elem_type = new
            case "AttributeProto" if message.name in DTYPE_ATTRIBUTES and message.i == old:
                message.i = new
            case _:
                continue
        found = True
    return found


def _put(tensor: onnx.TensorProto, values: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
